"""What is told of files that go from machine to machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snakemake_executor_ec2.formatting import size
from snakemake_executor_ec2.model import JobPlan


def passed(plan: JobPlan, sizes: Sequence[int], holder: str, seconds: float) -> str:
    files = "1 large file" if len(sizes) == 1 else f"{len(sizes)} large files"
    return f"{plan.label} got {files}, {size(sum(sizes))}, from machine {holder} in {seconds:.1f} s"


def not_allowed(why: str) -> str:
    return (
        f"large files cannot go from machine to machine, so your computer sends them to each: {why} "
        "(with --ec2-peers never, it is not tried)"
    )


def failed(why: str, *, for_good: bool) -> str:
    again = "sends such files from now on" if for_good else "sends it, if no other machine has it"
    return f"a large file could not be fetched from another machine ({why}); your computer {again}"


def wrong(path: Path, holder: str, reader: str) -> str:
    return (
        f"machine {reader} says that machine {holder} has {path} with other content than your computer, so "
        "it gets it elsewhere: a job may have changed it"
    )
