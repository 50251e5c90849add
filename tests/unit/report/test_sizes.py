"""What jobs asked for and used: less is suggested with a margin, more where it ran out."""

from __future__ import annotations

from typing import Any

import pytest

from snakemake_executor_ec2.model import Failure, JobResult, Requirements, Usage
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.report.sizes import RuleSizes, sizes
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, summary


def job(
    number: int = 1,
    *,
    mib: int = 900,
    cores: float = 0.9,
    disk: int = 100,
    failure: Failure | None = None,
    **asked: Any,
) -> Attempt:
    """One that ran 100 s."""
    wanted = Requirements(**{"threads": 1, "mem_mb": 1000, "disk_mb": 1000, **asked})
    usage = Usage(peak_mem_mib=mib, cpu_seconds=cores * 100, peak_disk_mib=disk)
    code = 1 if failure else 0
    result = JobResult(exit_code=code, failure=failure, seconds=100.0, usage=usage)
    return attempt(number, asked=wanted, result=result, end_reason="failed" if failure else "done")


def of(*jobs: Attempt) -> RuleSizes:
    (row,) = sizes(summary(run_record("run-1"), list(jobs), until=BEGAN_AT).rules)
    return row


def test_what_was_used_is_in_the_units_of_rules() -> None:
    """MiB of the machine are Snakemake's MB; threads are those busy on average."""
    row = of(
        job(1, mib=1000, cores=1.5, disk=500, mem_mb=2000, threads=2), job(2, mib=500, cores=1, mem_mb=2000)
    )
    assert row.mem_mb is not None
    assert (row.mem_mb.asked, row.mem_mb.varies) == ((2000, 2000), False)
    assert (row.mem_mb.most, row.mem_mb.typical) == pytest.approx((1048.576, 786.432))
    assert row.cores is not None
    assert (row.cores.asked, row.cores.most, row.cores.varies) == ((1, 2), 1.5, True)
    assert row.disk_mb is not None
    assert row.disk_mb.most == pytest.approx(524.288)
    assert row.measured == 2


@pytest.mark.parametrize(
    ("jobs", "suggested"),
    [
        ([job()], []),
        ([job(mem_mb=10_000, mib=2000)], ["mem_mb=4200: jobs used at most 2,097 of 10,000 MB"]),
        ([job(mem_mb=600, mib=20)], []),
        (
            [job(number, mem_mb=10_000, mib=2000) for number in (1, 2, 3, 4, 5)],
            ["mem_mb=2700: jobs used at most 2,097 of 10,000 MB"],
        ),
        (
            [job(1), job(2, mem_mb=4000, mib=7000, failure=Failure.OUT_OF_MEMORY)],
            ["mem_mb=11100: 1 ran out of memory with 7,340 MB"],
        ),
        (
            [job(1, mem_mb=8000, mib=2000), job(2, mem_mb=16_000, mib=2000)],
            ["mem_mb: 39% of it would do; jobs used at most 26%"],
        ),
        ([job(threads=8, cores=1.2)], ["threads=2: at most 1.2 of 8 were busy on average"]),
        ([job(threads=8, cores=7.5)], []),
        (
            [job(disk_mb=90_000, disk=1000)],
            ["disk_mb=3000: jobs wrote at most 1,049 of 90,000 MB; add the size of the inputs"],
        ),
        ([job(disk_mb=9000, disk=10)], []),
        (
            [job(1), job(2, mem_mb=4000, failure=Failure.OUT_OF_MEMORY)],
            ["mem_mb=6000: 1 ran out of memory with 4,000 MB"],
        ),
        ([job(1, mem_mb=9000, mib=8000), job(2, failure=Failure.OUT_OF_MEMORY)], []),
        ([job(failure=Failure.DISK_FULL, disk_mb=5000)], ["disk_mb=8000: 1 found a disk of 5,000 MB full"]),
    ],
)  # fmt: skip
def test_suggestions(jobs: list[Attempt], suggested: list[str]) -> None:
    """None where what is asked for is about right, or where too little has been answered already."""
    assert list(of(*jobs).suggestions) == suggested


def test_what_was_not_measured_is_not_nothing() -> None:
    """An agent that could not look says that no memory was needed; jobs without a result are left out.
    But a job may write nothing."""
    row = of(job(mib=0, cores=0, disk=0))
    assert (row.mem_mb, row.cores, row.disk_mb, row.measured, row.suggestions) == (None, None, None, 0, ())
    disk = of(job(1, mib=0, disk=50), job(2, disk=0)).disk_mb
    assert disk is not None
    assert disk.most == 0
    assert sizes(summary(run_record("run-1"), [attempt(1)], until=BEGAN_AT).rules) == []
