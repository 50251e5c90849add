"""Ctrl-C is heard, also where somebody has dropped it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from snakemake_executor_ec2.plugin import snakemake_private
from snakemake_executor_ec2.plugin.interrupts import Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    made = Interrupts(patience_s=0.05)
    made.listen()
    yield made
    made.heard()
    made.over()
    signal.signal(signal.SIGINT, before)


def repeated_beside(interrupts: Interrupts) -> None:
    def beside() -> None:
        for _ in range(20):
            time.sleep(0.02)
            interrupts.repeat()

    threading.Thread(target=beside, daemon=True).start()


def test_what_was_dropped_is_said_again(interrupts: Interrupts) -> None:
    """A main thread that waits for ever is woken up; as often as it drops it, until it has heard it."""
    for _ in range(2):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    repeated_beside(interrupts)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(30)
    interrupts.heard()
    time.sleep(0.6)


def test_a_signal_that_another_thread_got(interrupts: Interrupts) -> None:
    """Python notes it for the main thread, which sleeps on."""

    def press() -> None:
        time.sleep(0.3)  # the main thread sleeps by then
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        repeated_beside(interrupts)

    began = time.monotonic()
    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        threading.Event().wait(30)
    interrupts.heard()
    assert time.monotonic() - began < 15


def test_what_was_heard_is_not_said_again(interrupts: Interrupts) -> None:
    """The run that ends is not disturbed, and Ctrl-C is Python's own again."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    interrupts.heard()
    repeated_beside(interrupts)
    time.sleep(0.6)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_of_somebody_else_stays() -> None:
    """Where Ctrl-C means something else already, or nothing, it is left alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts = Interrupts()
    try:
        interrupts.listen()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        interrupts.heard()
        interrupts.over()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_a_run_as_ctrl_c_does(number: signal.Signals) -> None:
    """Once: what comes while the run ends does not disturb that; afterwards all is as it was."""
    ours = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    before = signal.getsignal(number)
    interrupts = Interrupts(patience_s=0.05)
    interrupts.listen()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
        assert interrupts.name == number.name
        repeated_beside(interrupts)
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(30)
        interrupts.heard()
        signal.raise_signal(number)
    finally:
        interrupts.heard()
        time.sleep(0.6)
        interrupts.over()
        after = signal.signal(number, ours)
    assert after == before


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """`nohup`: a closed window ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts = Interrupts()
    try:
        interrupts.listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
    finally:
        interrupts.heard()
        interrupts.over()
        signal.signal(signal.SIGHUP, before)


def test_sigterm_while_snakemake_s_scheduler_holds_its_lock() -> None:
    """Its own handler takes the lock that the interrupted thread holds, and would wait for ever."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._lock = threading.Lock()
    original = JobScheduler.exit_gracefully
    interrupts = Interrupts()
    interrupts.listen()
    undo = snakemake_private.on_sigterm(interrupts.end)
    before = signal.signal(signal.SIGTERM, scheduler.exit_gracefully)
    try:
        with scheduler._lock, pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
        undo()
        interrupts.heard()
        interrupts.over()
    assert JobScheduler.exit_gracefully is original
