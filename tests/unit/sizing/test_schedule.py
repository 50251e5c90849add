"""A run imagined beforehand keeps the rules of a real one, and takes no longer than it must."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.sizing.schedule import Schedule, Task, schedule


@st.composite
def workflows(draw: st.DrawFn) -> list[Task]:
    """Up to nine tasks, each of which waits for some before it."""
    tasks: list[Task] = []
    for number in range(draw(st.integers(0, 9))):
        after = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        tasks.append(
            Task(
                after=tuple(after),
                kind=draw(st.sampled_from(["a", "a", "b", None])),
                seconds=draw(st.integers(0, 100)),
                first_s=draw(st.integers(1, 90)),
                next_s=draw(st.integers(1, 20)),
            )
        )
    return tasks


def longest_chain(tasks: Sequence[Task]) -> float:
    """By brute force: nothing can be faster on machines that are all new."""

    @cache
    def end(number: int) -> float:
        task = tasks[number]
        own = task.seconds + task.first_s if task.kind else 0.0
        return own + max((end(each) for each in task.after), default=0.0)

    return max((end(number) for number in range(len(tasks))), default=0.0)


def at_work(tasks: Sequence[Task], found: Schedule, moment: float) -> int:
    return sum(
        task.kind is not None and began <= moment < ended
        for task, began, ended in zip(tasks, found.began_s, found.ended_s, strict=True)
    )


@settings(max_examples=80, deadline=None)
@given(workflows(), st.integers(1, 4), st.sampled_from([None, 0, 30, 1000]))
def test_rules_of_a_run(tasks: list[Task], at_a_time: int, idle_s: float | None) -> None:
    """Each job once, after those that it waits for, on one machine; never too many, never one that waits
    without need; a machine works for one kind, and is never idle for longer than it may be."""
    found = schedule(tasks, at_a_time=at_a_time, idle_s=idle_s)
    on_machines = [number for number, task in enumerate(tasks) if task.kind]
    assert sorted(number for stay in found.stays for number in stay.tasks) == on_machines
    for number, task in enumerate(tasks):
        began = found.began_s[number]
        could = max((found.ended_s[each] for each in task.after), default=0.0)
        assert began >= could
        if task.kind is None:
            assert began == found.ended_s[number] == could
            continue
        assert at_work(tasks, found, began) <= at_a_time
        earlier = [end for end in (0.0, *found.ended_s) if could <= end < began]
        assert all(at_work(tasks, found, moment) == at_a_time for moment in earlier)
    for stay in found.stays:
        first, *more = stay.tasks
        assert found.ended_s[first] - found.began_s[first] == tasks[first].seconds + tasks[first].first_s
        assert len({tasks[each].kind for each in stay.tasks}) == 1
        assert idle_s is not None or not more
        for before, after in zip(stay.tasks, more, strict=False):
            assert 0 <= found.began_s[after] - found.ended_s[before] <= (idle_s or 0)
            assert found.ended_s[after] - found.began_s[after] == tasks[after].seconds + tasks[after].next_s
        waited = stay.seconds - (found.ended_s[stay.tasks[-1]] - found.began_s[first])
        assert 0 <= waited <= (idle_s or 0)


@settings(max_examples=40, deadline=None)
@given(workflows())
def test_without_limits_the_longest_chain_decides(tasks: list[Task]) -> None:
    """As many machines as there are jobs, and no more time than the jobs one after the other need."""
    found = schedule(tasks, at_a_time=None, idle_s=None)
    assert found.wall_s == longest_chain(tasks)
    assert len(found.stays) == sum(task.kind is not None for task in tasks)


def test_ten_jobs_on_two_machines() -> None:
    """What reuse saves: two boots for ten jobs, and the time of the other eight."""
    tasks = [Task(kind="a", seconds=10, first_s=90, next_s=15)] * 10
    shared = schedule(tasks, at_a_time=2, idle_s=60)
    alone = schedule(tasks, at_a_time=2, idle_s=None)
    assert (len(shared.stays), shared.wall_s) == (2, 100 + 4 * 25)
    assert (len(alone.stays), alone.wall_s) == (10, 5 * 100)
    assert [stay.seconds for stay in shared.stays] == [200, 200]


@pytest.mark.parametrize(("pause", "machines", "seconds"), [(50, 1, [20 + 60 + 12]), (70, 2, [20 + 60, 20])])
def test_a_machine_waits_no_longer_than_it_may(pause: int, machines: int, seconds: list[int]) -> None:
    """The second job of its rule comes after another rule's, of which the machine sees nothing."""
    tasks = [
        Task(kind="a", seconds=10, first_s=10, next_s=2),
        Task(kind="b", seconds=pause, first_s=10, next_s=2, after=(0,)),
        Task(kind="a", seconds=10, first_s=10, next_s=2, after=(1,)),
    ]
    stays = [stay for stay in schedule(tasks, at_a_time=5, idle_s=60).stays if 1 not in stay.tasks]
    assert len(stays) == machines
    assert [stay.seconds for stay in stays] == seconds
