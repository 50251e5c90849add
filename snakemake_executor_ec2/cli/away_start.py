"""`snakemake-ec2 away start`: on a new machine, or once more on the one that is there."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.away.project import Terms
from snakemake_executor_ec2.away.wheel import own_wheel
from snakemake_executor_ec2.cli.common import to_stderr
from snakemake_executor_ec2.cli.interrupting import ignore_signals, interrupts, wait_for
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.controller.spending import before_usd
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.formatting import seconds
from snakemake_executor_ec2.model import Arch, Offer, Phase, Requirements, SpotUse
from snakemake_executor_ec2.plugin.away import project
from snakemake_executor_ec2.plugin.notify import Notices
from snakemake_executor_ec2.plugin.run_config import run_config
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.report import away as told
from snakemake_executor_ec2.sizing import disk
from snakemake_executor_ec2.sizing.cost import usd_per_hour
from snakemake_executor_ec2.sizing.reuse import Reuse

if TYPE_CHECKING:
    from snakemake_executor_ec2.away import start as starting
    from snakemake_executor_ec2.away.found import Way
    from snakemake_executor_ec2.away.machine import AwayMachine
    from snakemake_executor_ec2.controller.run import Run

_SHORTEST_S = 3600
_BOOTS_S = 300.0
_ANSWERS_S = 30.0


def start(dag: Any, settings: Any, arguments: Sequence[str], options: argparse.Namespace) -> int:
    """Start a workflow of Snakemake's away; the exit status. Raises Ec2ExecutorError."""
    if not list(dag.needrun_jobs()):
        print("Nothing to be done.")
        return 0
    notices = Notices(settings.notify, to_stderr, here=False)
    try:
        config = run_config(settings)
        order = _order(dag, settings, arguments, options, config)
        with _alone(Path.cwd() / FOLDER):
            status = _start(config, order, options)
    except Ec2ExecutorError:
        notices.refused()
        raise
    if status:
        notices.refused()
    return status


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other start meanwhile: until a machine is ready, a second one would launch its own, and the first
    would be forgotten."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "away.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(told.starts_already()) from None
        except OSError:
            pass  # there are no locks here
        yield


def _start(config: RunConfig, order: starting.Order, options: argparse.Namespace) -> int:
    """Start it where the folder's journal has a machine, or on a new one."""
    from snakemake_executor_ec2.away.end import end_unready
    from snakemake_executor_ec2.away.found import Way, newest, unready

    journal = Journal(Path.cwd(), now=time.time, warn=to_stderr)
    try:
        for left in unready(journal):
            with suppress(ConfigurationError):  # it is elsewhere: of an embedded cloud that has ended
                end_unready(journal, Way(left, Path.cwd(), profile=config.profile, tell=to_stderr))
        away = newest(journal)
        order = _beside_earlier(order, journal, config, away.machine.id if away else "")
        if away is not None:
            with Way(away, Path.cwd(), profile=config.profile, tell=to_stderr) as way:
                status = way.status()
                if not status.state.is_gone:
                    return _again(journal, way, order, options)
            to_stderr(told.gone(away.machine, status.state, status.reason))
            journal.end_machine(away.attempt.on.id, "lost")
            journal.is_written()
    finally:
        journal.close()
    return _anew(config, order, options)


def _order(
    dag: Any, settings: Any, arguments: Sequence[str], options: argparse.Namespace, config: RunConfig
) -> starting.Order:
    from snakemake_executor_ec2.away.start import Order

    terms = Terms(lifetime_s=_time("--lifetime", options.lifetime), keep_s=_time("--keep", options.keep))
    wheel = own_wheel()
    needed = Requirements(
        threads=1,
        mem_mb=options.mem_mb,
        disk_mb=options.disk_gb * 1000,
        runtime_min=terms.lifetime_s // 60,
        instance_types=(options.machine,) if options.machine else (),
    )
    return Order(
        project=project(dag, settings, arguments, wheel, to_stderr),
        wheel=wheel,
        requirements=needed,
        terms=terms,
        max_cost_usd=config.max_cost_usd,
    )


def _beside_earlier(order: starting.Order, journal: Journal, config: RunConfig, own: str) -> starting.Order:
    """With what earlier runs have left of the budget, if they count: the machine does not know of them. Its
    `own` jobs it counts itself."""
    if order.max_cost_usd is None:
        return order
    before = before_usd(journal, config.budget_period, time.time())
    spent_usd = sum(usd for name, usd in before.items() if name != own)
    return replace(order, max_cost_usd=order.max_cost_usd - spent_usd)


def _time(option: str, text: str) -> int:
    try:
        found = round(seconds(text, bare="m"))
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from error
    if found < _SHORTEST_S:
        raise ConfigurationError(f"{option} {text}: must be at least 1h")
    return found


# --- on a new machine ---------------------------------------------------------------------


def _anew(config: RunConfig, order: starting.Order, options: argparse.Namespace) -> int:
    from snakemake_executor_ec2.away.start import on_new_machine
    from snakemake_executor_ec2.controller.run import Run

    run = Run(
        _of_the_machine(config, order, options),
        software=order.project.software,
        tell=to_stderr,
        warn=to_stderr,
    )
    with interrupts():
        try:
            run.open()
            needed = order.requirements
            offer = _offer(run, order)
            root = disk.volume(needed, run.feasibility.cloud.image(None, Arch.X86_64), offer)
            per_hour = usd_per_hour(offer.price, root) if offer.price else None
            what = f"{offer.instance_type.name} with a disk of {root.disk_gib} GiB"
            terms = order.terms
            to_stderr(told.intended(what, per_hour, terms.lifetime_s, terms.keep_s, order.max_cost_usd))
            key = run.key_for(1, 1)
            story = run.begin(
                order.plan(key), lambda context, cancel: on_new_machine(order, key, context, cancel)
            )
            interrupted = wait_for(run, story)
        finally:
            ignore_signals()
            run.close(shown=False)  # the end of the workflow is not this one
    if interrupted or not story.done():
        raise KeyboardInterrupt
    outcome = story.result()
    print(outcome.message, file=sys.stdout if outcome.ok else sys.stderr)
    return 0 if outcome.ok else 1


def _offer(run: Run, order: starting.Order) -> Offer:
    try:
        return run.feasibility.check(order.requirements)
    except ConfigurationError as error:
        raise ConfigurationError(told.no_machine(error.message, order.terms.lifetime_s)) from error


def _of_the_machine(config: RunConfig, order: starting.Order, options: argparse.Namespace) -> RunConfig:
    """What the machine's launch takes of the options of a run: not what they say of jobs' machines."""
    plain = RunConfig()
    return replace(
        config,
        ami=None,
        use_baked=False,
        ssh_user=plain.ssh_user,
        instance_types=order.requirements.instance_types,
        exclude_types=(),
        arch=Arch.X86_64,
        spot=SpotUse.NEVER,
        instance_profile=options.role,
        lifetime_s=order.terms.lifetime_s,
        reuse=Reuse.NEVER,
        look_ahead=False,
        keep_failed_s=0.0,
    )


# --- once more on the one that is there ---------------------------------------------------


def _again(journal: Journal, way: Way, order: starting.Order, options: argparse.Namespace) -> int:
    from snakemake_executor_ec2.away.start import once_more

    away, machine = way.away, _answering(way, options)
    if machine.status(away.attempt.key).state == "running":
        print(told.runs_already(away.machine))
        return 0
    left_s = (away.until or 0.0) - time.time()
    if left_s < _SHORTEST_S:
        raise ConfigurationError(told.too_little_left(away.machine, left_s))
    number = len(journal.attempts_on(away.attempt.on)) + 1
    key = f"{away.run.id}.{number}.1"
    attempt: list[int] = []

    def note(saved: dict[str, object]) -> None:
        attempt.append(journal.begin(away.attempt.on.id, order.plan(key)))
        journal.enter(attempt[0], Phase.RUN)
        journal.note(attempt[0], saved_state=saved)
        journal.end(attempt[0], "left")
        if not journal.is_written():
            raise ConfigurationError(told.journal_unwritten())

    sent = once_more(order, key, machine, away.machine, left_s=left_s, note=note)
    print(told.again(away.machine, sent, left_s))
    return 0


def _answering(way: Way, options: argparse.Namespace) -> AwayMachine:
    """The machine, rebooted if it has crashed."""
    from snakemake_executor_ec2.away.found import replaced

    try:
        return way.machine(first_s=_ANSWERS_S)
    except Ec2ExecutorError as error:
        if not options.reboot and not way.crashed():
            raise replaced(error, way) from error
    to_stderr(told.rebooting(way.away.machine))
    way.reboot()
    return way.machine(first_s=_BOOTS_S)
