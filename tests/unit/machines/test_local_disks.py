"""Which machines are told to use their local disks. (What they do then: `tests/unit/agent`.)"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.host_keys import HostKeys
from snakemake_executor_ec2.machines.session import MachineSession
from snakemake_executor_ec2.ports import Completed
from snakemake_executor_ec2.timing import SystemClock
from tests.unit.machines import launchers


class _Enough(Exception):
    pass


class _Host:
    """Takes down the first request for folders."""

    request: dict[str, Any]

    def run(self, _: str, *, stdin: bytes = b"", timeout_s: float | None = None, **_more: int) -> Completed:
        self.request, self.timeout_s = json.loads(stdin), timeout_s
        raise _Enough


@pytest.mark.parametrize(
    ("nvme_gb", "there", "told"), [(100, True, 7000), (0, True, None), (100, False, None)]
)
def test_a_machine_is_told_what_its_job_asks_for(nvme_gb: int, there: bool, told: int | None) -> None:
    """With the room that the job needs there; in a rehearsal, no machine is told to format anything."""
    host = _Host()
    connection = cast(Connection, SimpleNamespace(machine_id="i-1", call=lambda use: use(host)))
    keys = HostKeys(first_is_enough=True, tell=print)
    session = MachineSession(connection, SystemClock(), print, {}, keys, [], local_disks=there)
    with pytest.raises(_Enough):
        session.stage_in(launchers.plan("a", nvme_gb=nvme_gb, disk_mb=7000))
    assert host.request["paths"] == [str(Path(launchers.plan("a").workdir))]
    assert host.request["local_disk_mb"] == told
    assert (host.timeout_s or 0) > (600 if told else 0)
