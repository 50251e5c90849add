"""`snakemake-ec2 gc`: find what dead runs left, and end it with --yes. Never what may be wanted."""

from __future__ import annotations

import argparse
import time

from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.cli.common import folder_journal, inventories_of
from snakemake_executor_ec2.cli.machines import Row, gather
from snakemake_executor_ec2.journal import Journal
from snakemake_executor_ec2.report.say import duration

_GROUP_S = 60.0


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="end them; without it they are only listed")


def main(options: argparse.Namespace) -> int:
    """List or end the orphans: machines, then the security groups that nothing uses any more."""
    machines = groups = 0
    with folder_journal(options) as journal:
        inventories = inventories_of(options, journal)
        for inventory in inventories:
            found = _collect(inventory, journal, end=options.yes)
            machines, groups = machines + found[0], groups + found[1]
    regions = ", ".join(each.region for each in inventories)
    what = f"{machines} machines, {groups} security groups in {regions}"
    hint = "; `snakemake-ec2 gc --yes` ends them" if machines or groups else ""
    print(f"ended: {what}" if options.yes else f"found: {what}{hint}")
    return 0


def _collect(inventory: Inventory, journal: Journal | None, *, end: bool) -> tuple[int, int]:
    """List or end a region's orphans: how many machines and groups."""
    now = time.time()
    rows = gather(inventory, journal, now)
    orphans = [row for row in rows if row.orphan]
    for row in rows:
        what = f"{row.found.id} {row.found.instance_type} {row.found.rule}"
        if row.orphan:
            print(f"{what}: {row.orphan}")
        elif row.lease_until is not None and not row.run_alive:
            left = duration(max(0, round((row.lease_until - now) / 60) * 60))
            print(
                f"{what}: stays, the same command may go on with it for another {left}; "
                f"`snakemake-ec2 kill {row.found.id}` ends it"
            )
    if end:
        inventory.terminate([row.found.id for row in orphans])
        for row in orphans:
            if journal and row.attempt:
                journal.end(row.attempt.id, row.attempt.ending or "abandoned", machine_ended=True)
    groups = _unused_groups(inventory, journal, [row for row in rows if not row.orphan])
    for group_id, run_id in groups.items():
        print(f"{group_id}: security group of run {run_id}, which is dead and has no machine to keep")
        if end and _delete(inventory, group_id) and journal:
            journal.close_run(run_id)
    return len(orphans), len(groups)


def _unused_groups(inventory: Inventory, journal: Journal | None, staying: list[Row]) -> dict[str, str]:
    """Groups of this folder's dead runs without a machine that stays. Others' runs may be alive."""
    if journal is None:
        return {}
    here = (inventory.region, inventory.endpoint)
    dead = {
        run.id
        for run in journal.runs(closed=True)
        if (run.region, run.endpoint) == here and not journal.is_alive(run.id)
    }
    used = {row.found.run for row in staying}
    return {group: run for group, run in inventory.groups().items() if run in dead - used}


def _delete(inventory: Inventory, group_id: str) -> bool:
    """Remove a group, once the machines that were ended just now have let go of it."""
    deadline = time.monotonic() + _GROUP_S
    while not inventory.delete_group(group_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(2)
    return True
