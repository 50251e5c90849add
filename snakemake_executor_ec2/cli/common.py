"""What the commands share: options, this folder's journal, the way to a machine."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.errors import ConfigurationError, JournalOfAnotherVersion
from snakemake_executor_ec2.local.environment import applied
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.report.past import is_rehearsal
from snakemake_executor_ec2.tags import AWAY_RULE


def add_common(parser: argparse.ArgumentParser, *, asks_aws: bool = True) -> None:
    """The options of every command; only those that ask AWS show the options for that."""
    parser.add_argument(
        "-d", "--directory", type=Path, default=Path(), help="the workflow's folder; default: the present one"
    )
    region = "AWS region; default: that of your AWS configuration and those of this folder's runs"
    profile = "named profile of your AWS configuration"
    parser.add_argument("--region", "--ec2-region", help=region if asks_aws else argparse.SUPPRESS)
    parser.add_argument("--profile", "--ec2-profile", help=profile if asks_aws else argparse.SUPPRESS)


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def inventory_of(options: argparse.Namespace, run: RunRecord | None = None) -> Inventory:
    """Of the region that was asked for; else that of a run, or of the AWS configuration."""
    region = options.region or (run.region if run else None)
    return Inventory(region=region, profile=options.profile)


def is_rehearsing(journal: Journal, run: RunRecord) -> bool:
    """Whether a run is a rehearsal that goes on, on this computer: its cloud is its process's child."""
    here = run.where is not None and run.where.host == journal.here.host
    return bool(run.cloud_env) and here and journal.is_alive(run.id)


def rehearsals(journal: Journal | None) -> list[RunRecord]:
    """The folder's rehearsals that go on."""
    return [run for run in journal.runs() if is_rehearsing(journal, run)] if journal else []


def _rehearsal_of(run: RunRecord) -> Inventory:
    """Of the cloud of a rehearsal that goes on."""
    clients = Clients(region=run.region, profile=None)
    with applied(run.cloud_env):
        clients.make()
    return Inventory(clients=clients)


def inventory_with(options: argparse.Namespace, run: RunRecord, journal: Journal) -> Inventory:
    """Where a run's machines are. Raises ConfigurationError if another EC2 answers here."""
    if is_rehearsing(journal, run):
        return _rehearsal_of(run)
    if run.cloud_env or run.closed:
        raise ConfigurationError(f"run {run.id} has ended, and so have its machines")
    found = inventory_of(options, run)
    if found.endpoint != run.endpoint and not options.region:
        raise ConfigurationError(
            f"the machines of run {run.id} are on {run.endpoint}, but your AWS configuration leads to "
            f"{found.endpoint}; an embedded cloud ends with its run, and so do its machines"
        )
    return found


def inventories_of(options: argparse.Namespace, journal: Journal | None) -> list[Inventory]:
    """Of every region where there may be machines: that of the AWS configuration, and those where runs
    of this folder have left something. Only the one that was asked for, if one was. And of the folder's
    rehearsals that go on: if nothing else is of the folder, AWS is asked for what others have only."""
    runs = journal.runs() if journal else []
    rehearsed = [_rehearsal_of(run) for run in rehearsals(journal)]
    found: dict[str, Inventory] = {}
    for run in runs if not options.region else ():
        if run.cloud_env:
            continue
        there = found.get(run.region) or inventory_of(options, run)
        if there.endpoint == run.endpoint:
            found[run.region] = there
    of_others = any(getattr(options, name, False) for name in ("all", "mine", "region"))
    if rehearsed and not of_others:
        return [*rehearsed, *found.values()]
    usual = inventory_of(options)
    try:
        found.setdefault(usual.region, usual)
    except ConfigurationError as error:
        if not found:
            raise ConfigurationError(_why_nowhere(options, journal) or error.message) from error
    return [*rehearsed, *found.values()]


def _why_nowhere(options: argparse.Namespace, journal: Journal | None) -> str:
    """Why no region is known in which this folder has machines; empty: only because none is set."""
    if journal is None:
        return f"{nothing_has_run(options)}; for other machines, name an AWS region with --region"
    # A cloud that `snakemake-ec2 cloud` serves outlives runs: one that is not closed may have machines.
    if all(is_rehearsal(run) and (run.closed or run.cloud_env) for run in journal.runs(closed=True)):
        return (
            "no machine is left: this folder's runs were rehearsals, and have ended; for machines on AWS, "
            "name a region with --region"
        )
    return ""


def nothing_has_run(options: argparse.Namespace) -> str:
    """What to tell if the folder has no journal: it may be the wrong one."""
    folder = options.directory.absolute()
    above = next((each for each in folder.parents if (each / FOLDER / "journal.sqlite").exists()), None)
    hint = f", but in {above}: add -d {shlex.quote(os.path.relpath(above))}" if above else ""
    return f"nothing has run on EC2 in {folder} yet{hint}"


@contextmanager
def folder_journal(options: argparse.Namespace, *, needed: bool = True) -> Iterator[Journal | None]:
    """The journal of the workflow's folder; None if it has none. None is made. One of another version
    raises ConfigurationError; if none is `needed`, it is only said and not read."""
    journal = None
    if (options.directory / FOLDER / "journal.sqlite").exists():
        try:
            journal = Journal(options.directory.absolute(), now=time.time, warn=to_stderr)
        except JournalOfAnotherVersion as error:
            if needed:
                raise
            to_stderr(error.message)
    try:
        yield journal
    finally:
        if journal is not None:
            journal.close()


def attempt_named(
    journal: Journal | None, name: str, options: argparse.Namespace, *, alone: bool = False
) -> Attempt:
    """The newest attempt that a machine's id, a job's key or a part of its label names.

    Raises ConfigurationError; with `alone` also where a part of a label fits several jobs that are
    under way.
    """
    if journal is None:
        raise ConfigurationError(nothing_has_run(options))
    attempts = journal.attempts() if name else []
    for each in reversed(attempts):
        if name in (each.key, each.machine.id if each.machine else ""):
            return each
    fitting = [each for each in reversed(attempts) if name in each.label]
    under_way = [each for each in fitting if each.machine and not each.on.ended_at]
    labels = sorted({each.label for each in under_way})
    if alone and len(labels) > 1 and name not in labels:
        raise ConfigurationError(f"{name!r} matches several jobs: {', '.join(labels)}; name one of them")
    if alone and under_way:
        fitting = under_way
    if fitting:
        return next((each for each in fitting if each.label == name), fitting[0])
    away = ""
    if any(each.rule == AWAY_RULE for each in attempts):
        away = (
            "; the jobs of a run that is away are in the journal of its machine. The files with what they "
            f"printed are named in `snakemake-ec2 away logs`: snakemake-ec2 ssh '{AWAY_RULE}' cat FILE"
        )
    raise ConfigurationError(f"no machine, job or rule {name!r} is in the journal of this folder{away}")
