"""The end of a whole run: whatever is left of its jobs' machines, then its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_ec2.aws.inventory import Found, Inventory
from snakemake_executor_ec2.errors import CloudError
from snakemake_executor_ec2.model import MachineState
from snakemake_executor_ec2.records.journal import Journal

if TYPE_CHECKING:
    from snakemake_executor_ec2.away.found import Way

_HOLDS = frozenset({MachineState.PENDING, MachineState.RUNNING, MachineState.STOPPING, MachineState.STOPPED})


def machines_of_jobs(inventory: Inventory, way: Way) -> list[Found]:
    """The machines that the run's own Snakemake has launched: their tags name its machine."""
    prefix = f"{way.away.started.hostname}:"
    return [each for each in inventory.machines() if each.folder.startswith(prefix)]


def end(journal: Journal, way: Way) -> int:
    """Terminate the run's machine and what is left of its jobs'; how many these were.

    Raises CloudError if one could not be ended.
    """
    inventory = Inventory(clients=way.ec2.clients)
    own = way.away.machine.id
    # The controller first: it would start its jobs again.
    failed = inventory.end([own])
    others = machines_of_jobs(inventory, way)
    failed |= inventory.end([each.id for each in others])
    if failed:
        raise CloudError("; ".join(f"{name} could not be ended: {error}" for name, error in failed.items()))
    journal.end_machine(way.away.attempt.on.id, "stopped")
    gone = inventory.delete_groups({each.run for each in others} | {way.away.run.id})
    if way.away.run.id in gone.values():
        journal.close_run(way.away.run.id)
    journal.is_written()
    return len(others)
