"""The end of a whole run: whatever is left of its jobs' machines, then its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_ec2.away.project import controller_of
from snakemake_executor_ec2.aws.inventory import Found, Inventory
from snakemake_executor_ec2.errors import CloudError, Ec2ExecutorError
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.timing import Backoff

if TYPE_CHECKING:
    from snakemake_executor_ec2.away.found import Way

LOOKS_S = 60.0
"""How long machines of jobs are looked for."""
_CLEAN_LOOKS = 2


def machines_of_jobs(inventory: Inventory, way: Way) -> list[Found]:
    """The machines that the run's own Snakemake has launched: their tags name its machine."""
    controller = controller_of(way.away.attempt)
    assert controller is not None
    return [each for each in inventory.machines() if controller.has_launched(each.folder, each.launched_at)]


def end(journal: Journal, way: Way) -> int:
    """Terminate the run's machine and what is left of its jobs'; how many these were.

    Raises CloudError if one could not be ended.
    """
    inventory = Inventory(clients=way.ec2.clients)
    own = way.away.machine.id
    # The controller first: it would start its jobs again.
    failed = inventory.end([own])
    others = _end_machines_of_jobs(inventory, way, failed)
    if failed:
        raise CloudError("; ".join(f"{name} could not be ended: {error}" for name, error in failed.items()))
    journal.end_machine(way.away.attempt.on.id, "stopped")
    gone = inventory.delete_groups({each.run for each in others.values()} | {way.away.run.id})
    if way.away.run.id in gone.values():
        journal.close_run(way.away.run.id)
    journal.is_written()
    return len(others)


def end_unready(journal: Journal, way: Way) -> None:
    """End what a start that was killed has launched, whether or not it heard of it. Raises CloudError."""
    way.ec2.take_over()
    if way.ec2.close():
        journal.end_machine(way.away.attempt.on.id, "abandoned")
        journal.close_run(way.away.run.id)
        journal.is_written()


def _end_machines_of_jobs(
    inventory: Inventory, way: Way, failed: dict[str, Ec2ExecutorError]
) -> dict[str, Found]:
    """End them until none is found twice in a row: EC2 shows a launch late, and the controller may have
    launched more until it was off. Those that could not be ended are in `failed`, too."""
    found: dict[str, Found] = {}
    patience = Backoff(way.clock, total_s=LOOKS_S, first_s=2.0, most_s=4.0)
    clean = 0
    while clean < _CLEAN_LOOKS:
        new = [each for each in machines_of_jobs(inventory, way) if each.id not in failed]
        failed |= inventory.end([each.id for each in new])
        found |= {each.id: each for each in new}
        clean = 0 if new else clean + 1
        if clean < _CLEAN_LOOKS and not patience.pause():
            break
    return found
