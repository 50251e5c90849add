"""Leases are renewed while something takes long, by few threads."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import cast

import pytest

from snakemake_executor_ec2.controller import leases as leases_module
from snakemake_executor_ec2.controller.leases import Leases
from snakemake_executor_ec2.errors import ConnectionLost
from snakemake_executor_ec2.ports import Session
from tests.fakes.threads import no_threads


class Machine:
    """A session that counts; its first renewal takes `slow_s`, and fails."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.renewed = 0
        self.slow_s = slow_s

    def renew(self) -> None:
        self.renewed += 1
        if self.slow_s:
            wait_s, self.slow_s = self.slow_s, 0.0
            time.sleep(wait_s)
            raise ConnectionLost("it broke off")

    @property
    def session(self) -> Session:
        return cast("Session", self)


def test_one_thread_for_all() -> None:
    """A hundred leases that are not due yet are one thread; those that are over are not renewed."""
    leases, machines = Leases(), [Machine() for _ in range(100)]
    before = threading.active_count()
    with ExitStack() as stack:
        for each in machines:
            stack.enter_context(leases.renewing(1000.0, each.session))
        assert threading.active_count() <= before + 1
    assert not any(each.renewed for each in machines)


def test_without_a_thread_leases_are_renewed_as_soon_as_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job goes on meanwhile: its lease has not ended yet."""
    monkeypatch.setattr(leases_module, "_AGAIN_S", 0.05)
    leases, first, second = Leases(), Machine(), Machine()
    with monkeypatch.context() as patch:
        no_threads(patch, "leases")
        stack = ExitStack()
        stack.enter_context(leases.renewing(0.2, first.session))
    with stack, leases.renewing(1000.0, second.session):
        with monkeypatch.context() as patch:
            no_threads(patch, "lease")
            time.sleep(0.3)
            assert not first.renewed
        time.sleep(0.3)
        assert first.renewed


def test_a_lost_machine_delays_no_other() -> None:
    """Short leases are renewed all the while, also beside a machine that does not answer; after the block no
    more."""
    leases, quick, lost = Leases(), Machine(), Machine(slow_s=0.5)
    with leases.renewing(1000.0, Machine().session):
        with leases.renewing(0.2, quick.session), leases.renewing(0.2, lost.session):
            time.sleep(0.4)
            assert quick.renewed >= 3
            assert lost.renewed == 1
            time.sleep(0.5)
            assert lost.renewed >= 2
        count = quick.renewed
        time.sleep(0.3)
        assert quick.renewed <= count + 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_renewal_that_fails_in_any_way_is_tried_again() -> None:
    """Also by an error of a library's: else the machine would end while it works."""

    class Broken(Machine):
        def renew(self) -> None:
            super().renew()
            raise OSError("no such thing is expected")

    leases, machine = Leases(), Broken()
    with leases.renewing(0.2, machine.session):
        time.sleep(0.4)
    assert machine.renewed >= 3
