"""Which jobs are to read what one makes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.controller.lingering import Reader
from snakemake_executor_ec2.plugin.readers import readers


@dataclass(frozen=True)
class Job:
    """A job of Snakemake's."""

    jobid: int
    is_local: bool = False

    def is_group(self) -> bool:
        return False


class Dag:
    """As much of Snakemake's as is asked."""

    def __init__(self) -> None:
        self.depending: Any = defaultdict(lambda: defaultdict(set))
        self.dependencies: Any = defaultdict(lambda: defaultdict(set))
        self.done: set[Job] = set()

    def reads(self, child: Job, parent: Job, *files: str) -> None:
        self.depending[parent][child].update(files)
        self.dependencies[child][parent].update(files)

    def needrun(self, job: Job) -> bool:
        return job.jobid < 900

    def finished(self, job: Job) -> bool:
        return job in self.done

    def get_job_group(self, job: Job) -> None:
        del job


def test_readers_of_what_a_job_makes() -> None:
    """On machines, that are to run, with all that they still wait for; not those that wait for many."""
    dag, coming = Dag(), [Job(number) for number in range(3)]
    parent, other, over = coming
    child, local, needless, gatherer = Job(10), Job(11, is_local=True), Job(900), Job(12)
    dag.reads(child, parent, "a/large")
    dag.reads(child, other, "b")
    dag.reads(child, over, "c")
    dag.done.add(over)
    for each in (local, needless, gatherer):
        dag.reads(each, parent, "a/large")
    for number in range(100, 130):
        dag.reads(gatherer, Job(number), str(number))
    expected = Reader(job=10, paths=(Path.cwd() / "a/large",), after=frozenset({0, 1}))
    assert readers(dag, parent) == [expected]
