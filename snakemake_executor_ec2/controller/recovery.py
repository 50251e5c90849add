"""What dead runs of this folder left on EC2: taken over by the jobs that need it, otherwise ended.

Only runs of this folder's journal, on the same EC2 and in the same account, whose process is gone.
What a run left running on purpose (`--ec2-detach`) is kept until a job asks for it; its lease
ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from snakemake_executor_ec2.controller.context import Inherited
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.model import MachineState
from snakemake_executor_ec2.ports import Cloud, Connector
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import Attempt, MachineRecord, RunRecord
from snakemake_executor_ec2.records.whereabouts import Verdict
from snakemake_executor_ec2.report import kept_results
from snakemake_executor_ec2.staging.file_stats import unchanged

_SEEN_AGAIN_S = 60.0
"""How long after its last heartbeat a run may still have been alive; it sends one every 30 s."""
_AT_WORK = frozenset({MachineState.PENDING, MachineState.RUNNING})


class Recovery:
    """Threads may ask it for jobs. `cloud_of` gives a cloud for an earlier run's id."""

    def __init__(
        self,
        *,
        journal: Journal,
        run_id: str,
        region: str,
        endpoint: str,
        account: str | None,
        now: Callable[[], float],
        cloud_of: Callable[[str], Cloud],
        connector_of: Callable[[RunRecord], Connector],
        tell: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._run_id = run_id
        self._here = (region, endpoint)
        self._account = account
        self._now = now
        self._cloud_of = cloud_of
        self._connector_of = connector_of
        self._tell = tell
        self._lock = threading.Lock()
        self._dead: dict[str, tuple[RunRecord, Cloud]] = {}
        self._waiting: list[Attempt] = []

    def settle(self, wanted: Collection[Path], *, all_known: bool) -> None:
        """Look at what there is, and end at once what no job will need: machines on which no job was
        started yet, and jobs whose outputs are not `wanted` (if `all_known` outputs are known)."""
        for run in self._journal.runs():
            verdict = self._journal.verdict(run)
            if run.id == self._run_id or verdict is Verdict.ALIVE:
                continue
            if not self._is_here(run):
                self._tell_of(run)
                continue
            cloud = self._cloud_of(run.id)
            states = cloud.take_over()
            if verdict is Verdict.ELSEWHERE:
                self._tell_of_others(run, states)
                continue
            self._dead[run.id] = (run, cloud)
            stays = self._staying(run, states, set(wanted), all_known)
            ending = [name for name, state in states.items() if state in _AT_WORK and name not in stays]
            if ending:
                self._tell(
                    f"ending {len(ending)} machine{'s' * (len(ending) > 1)} that run {run.id} left behind "
                    f"without a job to resume: {', '.join(ending)}"
                )
                cloud.terminate(ending)
                self._ended(ending, run.id)

    def finished(self, fingerprint: str, keys: Collection[str]) -> Attempt | None:
        """An attempt whose results are here, although Snakemake was killed before it knew: `keys`
        are what Snakemake has noted as under way for the job's outputs."""
        if not keys:
            return None  # the usual case, and the whole journal is read for the others
        runs = self._journal.runs(closed=True)
        dead = {run.id: run for run in runs if self._journal.verdict(run) is Verdict.DEAD}
        for attempt in reversed(self._journal.attempts()):
            fits = attempt.fingerprint == fingerprint and attempt.key in keys and attempt.on.owner in dead
            if fits and attempt.outputs_fetched:
                last_seen = self._journal.last_seen(dead[attempt.on.owner])
                if unchanged(attempt.outputs_fetched, touched_until=last_seen + _SEEN_AGAIN_S):
                    return attempt
        return None

    def take(self, fingerprint: str, outputs: Collection[Path]) -> Inherited | None:
        """Take over the attempt at such a job that is running, or has ended, on a machine. One that makes
        the same outputs in another way is ended."""
        with self._lock:
            fitting = [each for each in self._waiting if each.fingerprint == fingerprint]
            for attempt in fitting:
                self._waiting.remove(attempt)
                run, cloud = self._dead[attempt.on.run]
                if self._journal.claim(attempt.on, self._run_id):
                    return Inherited(attempt=attempt, cloud=cloud, connector=self._connector_of(run))
            for attempt in [each for each in self._waiting if {*outputs} & {*each.outputs}]:
                with suppress(Ec2ExecutorError):  # else tried again at the end
                    self._end(attempt, "which has changed since it was started")
                    self._waiting.remove(attempt)
        return None

    def close(self, *, left: Collection[str], detached: bool) -> None:
        """End what no job took over, and tidy up after the runs that have nothing left. `left` are
        machines that this run leaves on purpose. Raises no error of EC2."""
        stays = {*left}
        for attempt in self._waiting:
            run, cloud = self._dead[attempt.on.run]
            assert attempt.machine is not None
            with suppress(Ec2ExecutorError):
                if detached or run.detached or self._kept(attempt.on):
                    stays.add(attempt.machine.id)
                    # Its lease counts from the last call of the run that used it.
                    self._journal.claim(replace(attempt.on, owner=self._run_id), attempt.on.owner)
                else:
                    self._end(attempt, "which no job of this run asked for")
        for run, cloud in self._dead.values():
            with suppress(Ec2ExecutorError):
                alive = {name for name, state in cloud.take_over().items() if state in _AT_WORK}
                kept = {
                    each.machine.id
                    for each in self._journal.machines(run.id)
                    if each.machine and (self._kept(each) or self._another_s(each))
                }
                # It sweeps twice: a launch may show up late.
                if not alive & (stays | kept) and cloud.close():
                    self._journal.close_run(run.id)
        self._dead.clear()
        self._waiting.clear()

    def _end(self, attempt: Attempt, why: str) -> None:
        """End the machine of an attempt that no job took over, unless another run was faster."""
        assert attempt.machine is not None
        if self._journal.claim(attempt.on, self._run_id):
            name = attempt.machine.id
            self._tell(f"ending {name} of {attempt.label}, {why}")
            self._dead[attempt.on.run][1].terminate([name])
            self._ended([name], attempt.on.run)

    # --- helpers ------------------------------------------------------------------------------

    def _tell_of(self, run: RunRecord) -> None:
        """Say where a run's machines are, if it is in another region of the same AWS."""
        region, endpoint = self._here
        lease_runs = self._now() < self._journal.last_seen(run) + run.lease_s
        machines = [each for each in self._journal.machines(run.id) if each.machine and not each.ended_at]
        if lease_runs and machines and endpoint.replace(region, run.region) == run.endpoint != endpoint:
            self._tell(
                f"run {run.id} left machines in {run.region}, another region than this run's: add "
                f"--ec2-region {run.region} to resume it, or see `snakemake-ec2 ps` and `gc`"
            )

    def _tell_of_others(self, run: RunRecord, states: Mapping[str, MachineState]) -> None:
        """Say that machines are left alone, of a run of another computer or of a folder that was copied."""
        machines = [name for name, state in states.items() if state in _AT_WORK]
        if machines:
            self._tell(kept_results.not_ours(run, machines))

    def _is_here(self, run: RunRecord) -> bool:
        """Whether its machines are shown to us: another account's look as if there were none."""
        same_account = run.account == self._account or None in (run.account, self._account)
        return (run.region, run.endpoint) == self._here and same_account

    def _staying(
        self, run: RunRecord, states: Mapping[str, MachineState], wanted: set[Path], all_known: bool
    ) -> set[str]:
        stays = set()
        for attempt in self._journal.attempts(run.id):
            machine = attempt.machine
            if machine is None or states.get(machine.id) not in _AT_WORK:
                self._tell_of_its_end(run, attempt)
                continue
            asked_for = bool(wanted & set(attempt.outputs))
            if self._another_s(attempt.on) or self._kept(attempt.on):
                stays.add(machine.id)
            elif attempt.may_go_on and (asked_for or run.detached or not all_known or not attempt.outputs):
                stays.add(machine.id)
                # What this run only may need is not claimed: another run may be sure that it needs it.
                if not asked_for or self._journal.claim(attempt.on, self._run_id):
                    self._waiting.append(attempt)
        return stays

    def _tell_of_its_end(self, run: RunRecord, attempt: Attempt) -> None:
        """Say, once, that a machine on which a job was at work is not there any more, and why."""
        if attempt.may_go_on and not self._another_s(attempt.on):
            lease_s = attempt.on.lease_s or run.lease_s
            lapsed = self._now() > self._journal.last_seen(run) + lease_s
            self._tell(kept_results.ended_without_us(attempt, lease_s if lapsed else None))
            self._journal.end_machine(attempt.on.id, "lapsed" if lapsed else "lost")

    def _another_s(self, machine: MachineRecord) -> bool:
        """Whether another run has taken it over, which is alive or of another computer."""
        return machine.owner != self._run_id and not self._journal.is_dead(machine.owner)

    def _kept(self, machine: MachineRecord) -> bool:
        return machine.kept_until is not None and self._now() < machine.kept_until

    def _ended(self, machine_ids: Collection[str], run_id: str) -> None:
        for each in self._journal.machines(run_id):
            if each.machine is not None and each.machine.id in machine_ids:
                self._journal.end_machine(each.id, "abandoned")
