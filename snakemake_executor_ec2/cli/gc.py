"""`snakemake-ec2 gc`: list the machines and security groups that dead runs left behind; --yes ends them.

Machines that the same command could still resume are kept."""

from __future__ import annotations

import argparse
import time

from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.cli import machines
from snakemake_executor_ec2.cli.common import folder_journal, inventories_of, to_stderr
from snakemake_executor_ec2.cli.machines import Row
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.whereabouts import Verdict


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="end them; without it they are only listed")


def main(options: argparse.Namespace) -> int:
    """List or end the orphans: machines, then the security groups that nothing uses any more."""
    ended = groups = failed = 0
    with folder_journal(options) as journal:
        inventories = inventories_of(options, journal)
        for inventory in inventories:
            found = _collect(inventory, journal, end=options.yes)
            ended, groups, failed = ended + found[0], groups + found[1], failed + found[2]
    regions = ", ".join(each.region for each in inventories)
    what = f"{ended} machines, {groups} security groups in {regions}"
    hint = "; `snakemake-ec2 gc --yes` ends them" if ended or groups else ""
    print(f"ended: {what}" if options.yes else f"found: {what}{hint}")
    return 1 if failed else 0


def _collect(inventory: Inventory, journal: Journal | None, *, end: bool) -> tuple[int, int, int]:
    """List or end a region's orphans: how many machines and groups, and machines that EC2 did not end."""
    now = time.time()
    rows = machines.gather(inventory, journal, now)
    failures: dict[str, Ec2ExecutorError] = {}
    orphans = [row for row in rows if row.orphan]
    for row in rows:
        what = f"{row.found.id} {row.found.instance_type} {row.found.rule}"
        if row.orphan:
            print(f"{what}: {row.orphan}")
        elif row.ours and row.is_away:
            print(f"{what}: kept, because it runs a workflow; `snakemake-ec2 away stop` ends it")
        elif row.ours and row.lease_until is not None and row.verdict is Verdict.DEAD:
            left = duration(max(0, round((row.lease_until - now) / 60) * 60))
            print(
                f"{what}: kept, because the same command can resume it for another {left}; "
                f"`snakemake-ec2 kill {row.found.id}` ends it"
            )
    if end:
        failures = machines.end(inventory, orphans, journal, "abandoned")
        for name, error in failures.items():
            to_stderr(f"{name} could not be ended: {error}")
        orphans = [row for row in orphans if row.found.id not in failures]
    staying = [row for row in rows if row not in orphans]
    groups = _unused_groups(inventory, journal, staying)
    for group_id, run_id in groups.items():
        print(f"{group_id}: security group of run {run_id}, which is dead and keeps no machine")
    if end and journal:
        for run_id in inventory.delete_groups({*groups.values()}).values():
            journal.close_run(run_id)
    return len(orphans), len(groups), len(failures)


def _unused_groups(inventory: Inventory, journal: Journal | None, staying: list[Row]) -> dict[str, str]:
    """Groups of this folder's dead runs without a machine that stays. Others' runs may be alive."""
    if journal is None:
        return {}
    here = (inventory.region, inventory.endpoint)
    dead = {
        run.id
        for run in journal.runs(closed=True)
        if (run.region, run.endpoint) == here and journal.verdict(run) is Verdict.DEAD
    }
    used = {row.found.run for row in staying}
    return {group: run for group, run in inventory.groups().items() if run in dead - used}
