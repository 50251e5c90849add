"""What the user reads of a failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.model import Failure, JobResult, MachineState, MachineStatus, Usage
from snakemake_executor_ec2.records.ledger import Entry, MachineEntry
from snakemake_executor_ec2.report import failed_job, messages
from tests.unit.machines import launchers

PLAN = launchers.plan("a", mem_mb=2000, disk_mb=500, runtime_min=90)
EPILOGUE = """\
RuleException:
CalledProcessError in file "Snakefile", line 5:
Command 'exit 3' returned non-zero exit status 3.
[Sun Nov 22 20:43:00 2026]
Error in rule align:
    message: None
    shell:
        exit 3
Shutting down, this might take some time.
"""
PROLOGUE = """\
Building DAG of jobs...
Using shell: /usr/bin/bash
Select jobs to execute...
Execute 1 jobs...

[Sun Nov 22 20:43:00 2026]
localrule align:
    output: run.txt
    reason: Forced execution
    resources: tmpdir=/tmp
"""


def told(result: JobResult, log: Path) -> str:
    entry = Entry(label=PLAN.label, record=1, on=MachineEntry(record=1, machine=launchers.World().launch()))
    return failed_job.job_failed(
        PLAN, entry, result, log, entry.machine.launched_at + 3600 if entry.machine else 0.0
    )


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (JobResult(exit_code=3, failure=Failure.EXIT, evidence="exit code 3"), "exit code 3"),
        (
            JobResult(exit_code=-11, failure=Failure.SIGNAL, evidence="killed by signal 11 (SIGSEGV)"),
            "killed by signal 11 (SIGSEGV)",
        ),
        (JobResult(exit_code=-50, failure=Failure.SIGNAL), "killed by signal 50"),
        (
            JobResult(exit_code=137, failure=Failure.OUT_OF_MEMORY, evidence="the kernel killed a process"),
            "out of memory (the kernel killed a process); raise its mem_mb (it is 2000)",
        ),
        (
            JobResult(exit_code=1, failure=Failure.DISK_FULL),
            "the disk is full; raise its disk_mb (it is 500)",
        ),
        (
            JobResult(exit_code=-15, failure=Failure.RUNTIME),
            "not finished after its runtime of 90 minutes; raise runtime",
        ),
    ],
)
def test_each_cause_has_its_own_sentence(result: JobResult, cause: str, tmp_path: Path) -> None:
    """With the machine and what it did cost."""
    text = told(result, tmp_path / "none")
    assert text.startswith("rule align (a) failed on c7i.large i-")
    assert "(us-east-1a, cost $0.0" in text
    assert text.endswith(f"): {cause}")


def test_the_end_of_the_log_is_the_job_s(tmp_path: Path) -> None:
    """What Snakemake says after the failure, longer than what is shown, does not push it out."""
    log = tmp_path / "a.log"
    words = [f"word {number}" for number in range(30)]
    log.write_text("\n".join(words) + "\n" + EPILOGUE)
    result = JobResult(exit_code=3, failure=Failure.EXIT, usage=Usage(peak_mem_mib=85))
    first, where, *shown = told(result, log).splitlines()
    assert first.endswith("exit code 3 (peak memory 85 MiB)")
    assert str(log) in where
    assert shown == [f"    word {number}" for number in range(10, 30)]


def test_neither_snakemake_nor_a_long_command_pushes_the_error_out(tmp_path: Path) -> None:
    """What the machine's Snakemake says before a job is left out, and a line that nobody would read to its
    end is cut. The last line alone stands for the job where it failed like another one."""
    log = tmp_path / "a.log"
    long = f"+ plot {'--option value ' * 400}done"
    log.write_text(f"{PROLOGUE}reading\n{long}\nValueError: no data\n\n{EPILOGUE}")
    _, _, *shown = told(JobResult(exit_code=1, failure=Failure.EXIT), log).splitlines()
    assert [line.strip()[:10] for line in shown] == ["reading", "+ plot --o", "ValueError", ""]
    assert max(map(len, shown)) < 520
    assert failed_job.said(log) == "ValueError: no data"


def test_who_repeats_a_failure_is_told_so_in_a_line(tmp_path: Path) -> None:
    """With what is its own: machine, cost, cause and last words."""
    entry = Entry(label=PLAN.label, record=1, on=MachineEntry(record=1, machine=launchers.World().launch()))
    entry.said = "ValueError: no data"
    line = failed_job.again(PLAN, entry, "exit code 1", tmp_path / "a.log", 0.0)
    assert line.startswith("rule align (a) failed in the same way on c7i.large i-")
    assert line.endswith(f": exit code 1; it said: ValueError: no data (complete in {tmp_path}/a.log)")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("exit_code", "printed", "hints"),
    [
        (127, "/bin/bash: line 1: samtools: command not found", True),
        (1, "ModuleNotFoundError: No module named 'pandas'", True),
        (1, "Error in library(DESeq2) : there is no package called ‘DESeq2’", True),
        (1, "no such sample", False),
    ],
)
def test_software_that_is_not_there(exit_code: int, printed: str, hints: bool, tmp_path: Path) -> None:
    """The first thing that a pipeline meets on a new machine: how to bring it is said."""
    log = tmp_path / "a.log"
    log.write_text(f"{printed}\n")
    text = told(JobResult(exit_code=exit_code, failure=Failure.EXIT), log)
    assert ("--sdm conda" in text) == hints


def test_a_log_may_hold_anything(tmp_path: Path) -> None:
    """Words that are no names, or that nobody may look at, and more than fits into memory: no error."""
    log = tmp_path / "a.log"
    words = ["─" * 200, "x" * 254 + "é", "/root/.cache/x", "a\0b", "/w/../w/" + "y" * 5000]
    log.write_text("first\n" + "." * 2_000_000 + "\n" + "\n".join(words) + "\nlast\n")
    text = told(JobResult(exit_code=1, failure=Failure.EXIT), log)
    assert text.endswith("\n    last")
    assert "first" not in text


def test_a_log_without_snakemake_s_words_is_shown_as_it_is(tmp_path: Path) -> None:
    """Where Snakemake itself was killed, it says nothing."""
    log = tmp_path / "a.log"
    log.write_text("one\ntwo\n")
    assert told(JobResult(exit_code=-9, failure=Failure.SIGNAL), log).endswith("\n    one\n    two")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (60, "60 s"), (600, "10 minutes"), (43_200, "12 hours"), (9000, "2.5 hours")],
)
def test_durations(seconds: float, text: str) -> None:
    """In the unit that people would take."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Client.UserInitiatedShutdown", r"was terminated from outside .*snakemake-ec2 kill"),
        ("Client.InstanceInitiatedShutdown", r"ended by itself \(Client\.InstanceInitiatedShutdown"),
        ("Server.SpotInstanceTermination", r"ended by itself \(Server\.SpotInstanceTermination"),
    ],
)
def test_who_ended_a_machine(reason: str, said: str) -> None:
    """`kill` and the console are somebody; a lease, a crash and EC2 are not."""
    status = MachineStatus(state=MachineState.TERMINATED, reason=reason, message=f"{reason}: so it is")
    text = messages.gone(launchers.World().launch(), status)
    assert re.search(said, text), text
    assert ("by itself" in text) == (reason != "Client.UserInitiatedShutdown")


@pytest.mark.parametrize(
    ("why", "port"),
    [
        ("10.0.0.1 does not answer on port 22: [Errno 111] Connection refused.", True),
        ("10.0.0.1 does not answer on port 22: timed out.", False),
        ("10.0.0.1 refuses to log in 'ubuntu' with the run's key.", False),
    ],
)
def test_a_refused_connection_is_no_matter_of_the_network(why: str, port: bool) -> None:
    """Who refuses was reached: nothing listens there."""
    for text in (
        messages.unreachable(launchers.World().launch(), 300, why, ""),
        messages.none_reachable(2, why),
    ):
        assert ("--ec2-ssh-port" in text) == port
        assert ("your network may block outgoing ssh" in text) == (not port)
