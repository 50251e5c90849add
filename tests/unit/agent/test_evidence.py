"""Why a job failed, from facts alone."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.agent.evidence import Facts, classify, own_exit_code
from snakemake_executor_ec2.model import Failure

_GIB = 1 << 30


@pytest.mark.parametrize(
    ("facts", "failure", "word"),
    [
        (Facts(exit_code=3), "exit", "exit code 3"),
        (Facts(exit_code=1), "exit", "exit code 1"),
        (Facts(exit_code=-11), "signal", "SIGSEGV"),
        (Facts(exit_code=137), "signal", "SIGKILL"),
        (Facts(exit_code=143), "signal", "SIGTERM"),
        (Facts(exit_code=200), "exit", "exit code 200"),
        (Facts(exit_code=141), "signal", "SIGPIPE"),
        (Facts(exit_code=-50), "signal", "signal 50"),
        (Facts(exit_code=-9, oom_kills=1), "out of memory", "a process"),
        (Facts(exit_code=137, oom_kills=2), "out of memory", "2 processes"),
        (Facts(exit_code=1, oom_kills=1, oom_line="Killed process 7 (R)"), "out of memory", "(R)"),
        (Facts(exit_code=1, tail=b"...\nMemoryError\n"), "out of memory", "MemoryError"),
        (Facts(exit_code=1, least_free=1000, disk_size=_GIB), "disk full", "0 KiB"),
        (Facts(exit_code=1, least_free=_GIB // 1001, disk_size=_GIB), "disk full", "KiB"),
        (Facts(exit_code=1, least_free=_GIB // 2, disk_size=_GIB), "exit", "exit code 1"),
        (Facts(exit_code=1, tail=b"OSError: [Errno 28] No space left on device"), "disk full", "No space"),
        (Facts(exit_code=-15, over_runtime_s=60, oom_kills=1), "over runtime", "60 s"),
        (Facts(exit_code=0, over_runtime_s=60), "over runtime", "60 s"),
    ],
)
def test_every_kind_of_failure_is_told_apart(facts: Facts, failure: str, word: str) -> None:
    """The kind is one that the controller knows, and the evidence names what was seen."""
    kind, evidence = classify(facts)
    assert kind == failure
    assert Failure(kind)
    assert word in evidence


def test_success_needs_no_evidence() -> None:
    """A job that ends well has not failed, whatever the machine looks like."""
    assert classify(Facts(exit_code=0, oom_kills=3, least_free=0, tail=b"MemoryError")) == (None, "")


_SNAKEMAKE = """\
the job's own words
RuleException:
CalledProcessError in file "/work/Snakefile", line 5:
Command 'set -euo pipefail;  echo last;
exit 3' {how}
[Sun Nov 22 20:43:00 2026]
Error in rule a:
    message: None
    shell:
        exit 3
        (command exited with non-zero exit code)
WorkflowError:
At least one job did not complete successfully.
"""


@pytest.mark.parametrize(
    ("how", "own"),
    [
        ("returned non-zero exit status 3.", 3),
        ("returned non-zero exit status 137.", 137),
        ("died with <Signals.SIGSEGV: 11>.", -11),
        ("died with unknown signal 40.", -40),
        ("was lost", 1),
    ],
)
def test_the_exit_code_is_the_command_s_own(how: str, own: int) -> None:
    """Snakemake's exit code is always 1; what it prints of the command's is what counts."""
    assert own_exit_code(1, _SNAKEMAKE.format(how=how).encode()) == own


def test_the_last_command_that_failed_counts() -> None:
    """A group's rules and a rule's repetitions print one after the other."""
    first, second = (_SNAKEMAKE.format(how=f"returned non-zero exit status {n}.") for n in (3, 4))
    assert own_exit_code(1, (first + second).encode()) == 4


def test_what_a_job_prints_is_not_taken_for_snakemake_s_words() -> None:
    """Python prints much the same of a script; and what Snakemake itself ended by is its own."""
    printed = b"subprocess.CalledProcessError: Command 'x' returned non-zero exit status 7.\n"
    assert own_exit_code(1, printed) == 1
    assert own_exit_code(-9, _SNAKEMAKE.format(how="returned non-zero exit status 3.").encode()) == -9
    assert own_exit_code(0, printed) == 0
