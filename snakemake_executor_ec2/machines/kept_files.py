"""Large files that a machine has kept from an earlier job, so that they are not sent again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.errors import StagingError
from snakemake_executor_ec2.model import Cleaned, JobPlan
from snakemake_executor_ec2.staging.identity import name_of_output, names_of, sha256
from snakemake_executor_ec2.staging.paths import PathMap, Sending

if TYPE_CHECKING:
    from snakemake_executor_ec2.machines.connection import Connection


@dataclass(kw_only=True)
class KeptFiles:
    """Those of one machine, seen from one of its jobs."""

    connection: Connection
    sent: dict[str, str] = field(default_factory=dict)
    """Large files that this job reads: names (see `staging/identity.py`) by paths on the machine."""

    def take(self, plan: JobPlan, sending: Sequence[Sending], *, used: bool, ahead_ns: int) -> frozenset[str]:
        """Paths of what is there already and need not be sent. `used`: another job has been there. Raises
        StagingError."""
        try:
            self.sent = sent = names_of(sending, ahead_ns)
            if not used:
                return frozenset()
            free_mib = plan.requirements.disk_mb * 10**6 // 2**20
            there = self.connection.call(lambda host: Agent(host).take(sent, free_mib))
            missing = [each for each in sending if str(each.name) in sent.keys() - there]
            return there | self._made_there(missing, free_mib, ahead_ns)
        except OSError as error:
            raise StagingError(f"{error.filename} cannot be sent: {error.strerror}") from error

    def _made_there(self, missing: Sequence[Sending], free_mib: int, ahead_ns: int) -> frozenset[str]:
        """What a job has made there: taken if it is, by its checksum, what has come home of it."""
        named = {each: name for each in missing if (name := name_of_output(each.content))}
        if not named:
            return frozenset()
        # To read very large files may take longer than an answer may: asked again, it would take as long.
        known = self.connection.once(lambda host: Agent(host).checksums([*named.values()])) or {}
        files, status = {}, {}
        for each, name in named.items():
            before = os.lstat(each.content)
            same = name in known and sha256(each.content) == known[name]
            if same and os.lstat(each.content).st_ctime_ns == before.st_ctime_ns:
                files[str(each.name)] = name
                status[str(each.name)] = (before.st_mode & 0o777, before.st_mtime_ns + ahead_ns)
        if not files:
            return frozenset()
        return self.connection.call(lambda host: Agent(host).take(files, free_mib, status=status))

    def clean(self, plan: JobPlan, paths: PathMap) -> Cleaned:
        """Clean the machine, and let it keep what the job has read and made."""
        made = {str(paths.to_machine(path)): name for path in plan.outputs if (name := _name(path))}
        try:
            cleaned = self.connection.once(lambda host: Agent(host).clean(plan.key, self.sent, made))
        except StagingError as error:
            return Cleaned(changed=error.message, free_mib=0)
        return cleaned or Cleaned(changed="the connection to it was lost", free_mib=0)


def _name(path: Path) -> str | None:
    try:
        return name_of_output(path)
    except OSError:
        return None
