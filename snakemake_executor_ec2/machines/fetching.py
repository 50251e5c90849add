"""Fetches what a job has made: asked for by name, checked, and in place only when all of it has arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.agent.answers import Fetched
from snakemake_executor_ec2.agent.archive import Refused
from snakemake_executor_ec2.agent.transfer import Download
from snakemake_executor_ec2.errors import NotFetched, ResultsRefused, StagingError
from snakemake_executor_ec2.machines.counting import Transfers
from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.report import kept_results, messages
from snakemake_executor_ec2.report.transfers import files as told
from snakemake_executor_ec2.staging.links import LINKS_IN_A_ROW, LinkRules, dangling, noting
from snakemake_executor_ec2.staging.machine_links import MachineLinks
from snakemake_executor_ec2.staging.paths import PathMap

if TYPE_CHECKING:
    from snakemake_executor_ec2.machines.connection import Connection

_NO_RESULT = {"other": "no file", "pipe": "a pipe (FIFO)", "socket": "a socket", "device": "a device"}
_THERE = ("directory", "file", "symlink")


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """One job's results, from its machine to this computer."""

    plan: JobPlan
    paths: PathMap
    connection: Connection
    ahead_ns: int
    tell: Callable[[str], None]
    transfers: Transfers

    def results(self, *, succeeded: bool) -> tuple[int, int]:
        """Fetch what a job that ended well, or not, is to bring home: the number of files and the bytes.

        Raises NotFetched if the same may work later, else StagingError.
        """
        plan = self.plan
        must = plan.outputs if succeeded else ()
        may = (*plan.optional_outputs, *plan.logs) if succeeded else (*plan.logs, *plan.incomplete)
        if not must and not may:
            return 0, 0
        fetched = self._fetch(must, may, succeeded=succeeded)
        files, size = _there(fetched), fetched.size
        self._check_all_there(fetched, must)
        if fetched.skipped:
            self.tell(kept_results.not_sendable(plan, fetched.skipped))
        # A link is fetched as such; where what it leads to is not here, that is fetched, too.
        for _ in range(LINKS_IN_A_ROW):
            beyond = dangling((*must, *may), plan.workdir)
            if not beyond:
                break
            fetched = self._fetch((), beyond, succeeded=succeeded)
            files, size = files + _there(fetched), size + fetched.size
        return files, size

    def _check_all_there(self, fetched: Fetched, must: Sequence[Path]) -> None:
        there = {path: str(self.paths.to_machine(path)) for path in must}
        kinds = {path: fetched.kinds.get(name, "missing") for path, name in there.items()}
        for path, kind in kinds.items():
            if kind == "unreadable":
                why = fetched.why.get(there[path], str(path))
                raise ResultsRefused(f"{path} cannot be read on its machine, not even with sudo: {why}")
            if kind in _NO_RESULT:
                raise ResultsRefused(
                    f"{path} is {_NO_RESULT[kind]}, which cannot be sent: let the rule write a file instead"
                )
        missing = [str(path) for path, kind in kinds.items() if kind == "missing"]
        if missing:
            raise StagingError(f"the job succeeded, but did not make {', '.join(missing)}")
        if "stand-in" in kinds.values():
            raise StagingError(
                messages.made_of_stand_ins([p for p, kind in kinds.items() if kind == "stand-in"])
            )

    def _fetch(self, must: Sequence[Path], may: Sequence[Path], *, succeeded: bool) -> Fetched:
        """Bring files from the machine to where they belong. Raises NotFetched; after a failure there
        are no results to lose, and it is a StagingError unless this computer could not take them."""
        plan = self.plan
        targets = {str(self.paths.to_machine(path)): path for path in (*must, *may)}
        try:
            for path in targets.values():
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotFetched(f"{error.filename}: {error.strerror}", here=True) from error

        def place(name: str) -> str:
            # What a machine sends is not trusted: only what was asked for is stored, in its place.
            if name not in targets:
                raise Refused(f"{name} was not asked for")
            return str(targets[name])

        made = (*plan.outputs, *plan.optional_outputs, *plan.logs, *plan.own, *plan.incomplete, *may)
        rules = LinkRules(paths=self.paths, made=made, inputs=plan.inputs, sources=plan.sources)

        what = f"fetching {told(targets)} of {plan.label} from {self.connection.machine_id}"
        try:
            with (
                self.transfers.going(plan.key, "from", what) as progress,
                Download(
                    [str(self.paths.to_machine(path)) for path in may],
                    place,
                    must=[str(self.paths.to_machine(path)) for path in must],
                    judge=noting(rules, MachineLinks(plan.workdir)),
                    shift_ns=-self.ahead_ns,
                    progress=progress,
                ) as download,
            ):
                return self.connection.call(download.over)
        except ResultsRefused:
            raise
        except StagingError as error:
            here = isinstance(error.__cause__, OSError)
            if not (here or succeeded):
                raise
            raise NotFetched(error.message, here=here) from error


def _there(fetched: Fetched) -> int:
    return sum(kind in _THERE for kind in fetched.kinds.values())
