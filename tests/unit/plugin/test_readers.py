"""Which jobs are to read what one makes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake_executor_ec2.controller.lingering import Reader
from snakemake_executor_ec2.plugin.readers import read_again, readers


@dataclass(frozen=True)
class Job:
    """A job of Snakemake's."""

    jobid: int
    is_local: bool = False
    input: tuple[str, ...] = ()

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

    def get_job_group(self, job: Job) -> Any:
        del job


class GroupedDag(Dag):
    """One whose jobs are all in one group."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        self._group = group

    def get_job_group(self, job: Job) -> Any:
        del job
        return self._group


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


def test_inputs_that_are_read_again() -> None:
    """By those that wait for a job, wherever they run; not by others, and not within its group."""
    dag = Dag()
    fix = Job(1, input=("x.db", "own.txt", "other.txt"))
    dag.reads(Job(2, input=("x.db", "fixed.ok")), fix, "fixed.ok")
    dag.reads(Job(3, is_local=True, input=("x.db", "own.txt", "fixed.ok")), fix, "fixed.ok")
    other = Job(5, input=("other.txt",))
    dag.reads(Job(4, input=("other.txt", "y")), other, "y")
    assert read_again(dag, fix) == (Path.cwd() / "own.txt", Path.cwd() / "x.db")
    assert read_again(dag, other) == (Path.cwd() / "other.txt",)
    assert read_again(dag, Job(6)) == ()
    together = SimpleNamespace(jobs=[fix], jobid=7, is_group=lambda: True)
    with_group = GroupedDag(together)
    with_group.reads(Job(2, input=("x.db",)), fix, "fixed.ok")
    assert read_again(with_group, together) == ()
