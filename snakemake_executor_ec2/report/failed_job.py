"""The sentences for a job that failed: what failed, on which machine, what it cost, what to do next, and the
end of what it printed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.errors import Ec2ExecutorError, PreparationError
from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Failure, JobPlan, JobResult
from snakemake_executor_ec2.report.hints import hints, undeclared
from snakemake_executor_ec2.report.leavings import Leavings
from snakemake_executor_ec2.report.messages import indented
from snakemake_executor_ec2.report.table import cut

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import Entry

LOG_LINES = 20
"""How much of a failed job's output is shown."""
_LOG_BYTES = 1_000_000
"""How much of it is read for that, and for the names of files that were not sent."""
_LONGEST = 500
"""A longer line, such as a command that a program repeats, is cut in its middle."""
_LONGEST_SAID = 200
_REFUSED = "permission denied"
"""What programs say that cannot read a stand-in."""
_SETTING = re.compile(r"    [a-z_]+:")
"""What Snakemake says of a job before it runs it."""


def failed_by(plan: JobPlan, entry: Entry | None, error: Ec2ExecutorError, now: float) -> str:
    """The sentence for a job that could not be brought to its end."""
    text = f"{plan.label} failed{_where(entry, now) if entry else ''}: {error.message}"
    if isinstance(error, PreparationError) and error.log:
        text += f"\nThe end of the installer's log:\n{indented(error.log.splitlines()[-LOG_LINES:])}"
    return text


def checkpoint_left(plan: JobPlan, missed: Sequence[Path]) -> str:
    """Why a checkpoint fails whose functions would look for files that no longer exist."""
    many = f"{len(missed)} files" if len(missed) > 1 else "a file"
    return (
        f"functions look at what a checkpoint made, and it left {many} that it does not declare "
        f"({_some(plan, missed)}), lost with the machine. Declare them as output, or the folder that holds "
        "them with directory()"
    )


def changed_input(plan: JobPlan, changed: Sequence[Path]) -> str:
    """Why a job fails whose changes later jobs would not see."""
    return (
        f"it changed its own input ({_some(plan, changed)}), and a job that waits for it reads that, too. "
        "What a job does to its input is lost with the machine: let it write the changed file under another "
        "name, declare that as output, and read it in later rules"
    )


def _some(plan: JobPlan, paths: Sequence[Path]) -> str:
    names = [os.path.relpath(path, plan.workdir) for path in paths[:3]]
    return ", ".join([*names, *(["…"] if len(paths) > 3 else [])])


def job_failed(
    plan: JobPlan, entry: Entry, result: JobResult, log: Path, now: float, left: Leavings | None = None
) -> str:
    """The sentence for a job whose own command failed, and the end of what it printed."""
    text = f"{plan.label} failed{_where(entry, now)}: {cause(plan, result)}"
    if result.failure is Failure.DIFFERS:
        return text
    if result.usage.peak_mem_mib:
        text += f" (peak memory {result.usage.peak_mem_mib} MiB)"
    if lines := _end_of(log):
        shown = indented([cut(line, _LONGEST) for line in _own(lines)[-LOG_LINES:]])
        text += f"\nThe end of its output (complete in {log}):\n{shown}"
    text += "".join(f"\n{hint}" for hint in hints(plan, result.exit_code, lines, left))
    return text


def hint(plan: JobPlan, result: JobResult, log: Path, left: Leavings | None = None) -> str:
    """The first of the sentences that say what to do about it; empty if there is none."""
    if result.failure is Failure.DIFFERS:
        return ""
    return next(iter(hints(plan, result.exit_code, _end_of(log), left)), "")


def went_without(plan: JobPlan, log: Path) -> list[str]:
    """Files that were not sent and that a job complains of, in what it printed or in its log files, although
    it ended well: read in a pipe, with `|| true`, in a script that looks at no exit status."""
    lines = [line for each in (log, *plan.logs) for line in _end_of(each) if _REFUSED in line.lower()]
    return undeclared(plan, lines) if lines else []


def _end_of(log: Path) -> list[str]:
    """The last lines of a log, which may be of any size, or missing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _where(entry: Entry, now: float) -> str:
    if entry.machine is None:
        return ""
    machine, cost = entry.machine, usd(entry.cost_usd(now))
    return f" on {machine.instance_type} {machine.id} ({machine.zone}, cost {cost})"


def cause(plan: JobPlan, result: JobResult) -> str:
    if result.failure in (Failure.DIFFERS, Failure.NO_SOFTWARE):
        return result.evidence
    evidence = f" ({result.evidence})" if result.evidence else ""
    if result.failure is Failure.OUT_OF_MEMORY:
        return f"out of memory{evidence}; raise its mem_mb (it is {plan.requirements.mem_mb})"
    if result.failure is Failure.DISK_FULL:
        asked = plan.requirements
        local = f", and its ec2_nvme_gb (it is {asked.nvme_gb})" if asked.nvme_gb else ""
        return f"the disk is full{evidence}; raise its disk_mb (it is {asked.disk_mb}){local}"
    if result.failure is Failure.RUNTIME:
        minutes = plan.requirements.runtime_min
        return f"not finished after its runtime of {minutes} minute{'s' * (minutes != 1)}; raise runtime"
    if result.failure is Failure.SIGNAL:
        return result.evidence or f"killed by signal {-result.exit_code}"
    return f"exit code {result.exit_code}"


def _own(lines: Sequence[str]) -> Sequence[str]:
    """What a job printed, without what the machine's Snakemake says before it has begun and after it has
    failed: that is longer than what is shown of the end, and the controller's Snakemake says it again."""
    return _without_prologue(_without_epilogue(lines))


def _without_prologue(lines: Sequence[str]) -> Sequence[str]:
    if "Building DAG of jobs..." not in lines or "Select jobs to execute..." not in lines:
        return lines
    rest = lines[lines.index("Select jobs to execute...") + 1 :]
    begun = next((n for n, line in enumerate(rest) if line.startswith(("localrule ", "rule "))), None)
    if begun is None:
        return lines
    settings = next((n for n, line in enumerate(rest[begun + 1 :]) if not _SETTING.match(line)), None)
    return [] if settings is None else rest[begun + 1 + settings :]


def _without_epilogue(lines: Sequence[str]) -> Sequence[str]:
    for number in range(len(lines) - 1, 0, -1):
        if lines[number].startswith("Error in rule ") and lines[number].endswith(":"):
            lines = lines[: number - lines[number - 1].startswith("[")]
            break
    if (
        len(lines) > 2
        and lines[-3] == "RuleException:"
        and lines[-2].startswith("CalledProcessError in file")
    ):
        return lines[:-3]  # the command once more, and its exit status
    return lines


def said(log: Path) -> str:
    """The last line that a job printed, in which programs name their error; empty if there is none."""
    lines = [line.strip() for line in _own(_end_of(log))]
    return cut(next((line for line in reversed(lines) if line), ""), _LONGEST_SAID)


def again(plan: JobPlan, entry: Entry | None, cause: str, log: Path | None, now: float) -> str:
    """The line for a job that failed like another one, of which more was told."""
    words = f"; it said: {entry.said}" if entry and entry.said else ""
    where = f" (complete in {log})" if log and words else ""
    return f"{plan.label} failed in the same way{_where(entry, now) if entry else ''}: {cause}{words}{where}"
