"""When machines are launched ahead: against brute force, and in simulated time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from snakemake_executor_ec2.sizing.ahead import (
    NEXT_S,
    Demand,
    Graph,
    Key,
    Pace,
    Paces,
    Step,
    Supply,
    ready_s,
    to_launch,
)
from snakemake_executor_ec2.sizing.reuse import NEW_MACHINE_S

_PACES = {
    "quick": Pace(boot_s=10, prepare_s=20, next_s=1, run_s=2, fetch_s=1),
    "slow": Pace(boot_s=10, prepare_s=30, next_s=1, run_s=100, fetch_s=10),
    "unknown": Pace(boot_s=25, prepare_s=None, next_s=3, run_s=None, fetch_s=None),
}


def some_steps(chance: random.Random, *, unknown: bool = True) -> dict[Key, Step]:
    rules = [*_PACES] if unknown else ["quick", "slow"]
    return {
        key: Step(
            rule=chance.choice(rules), after=tuple(each for each in range(key) if chance.random() < 2 / key)
        )
        for key in range(chance.randrange(1, 15))
    }


@pytest.mark.parametrize("seed", range(40))
def test_when_jobs_are_ready(seed: int) -> None:
    """The same as if it were reckoned for each job from the ends of all that it waits for."""
    chance = random.Random(seed)  # noqa: S311
    steps = some_steps(chance)
    rests_s: dict[Key, float | None] = {
        key: chance.choice([None, chance.uniform(0, 100)])
        for key, step in steps.items()
        if not step.after and chance.random() < 0.8
    }
    ready: dict[Key, float | None] = {}
    ends: dict[Key, float | None] = {}
    for key, step in steps.items():
        before = [ends[each] for each in step.after]
        ready[key] = None if not before or None in before else max(each or 0.0 for each in before)
        whole_s = _PACES[step.rule].whole_s
        after = None if None in (ready[key], whole_s) else (ready[key] or 0.0) + (whole_s or 0.0)
        ends[key] = rests_s.get(key, after)

    found = list(Graph(steps).soon_ready(rests_s, _PACES.__getitem__))

    assert [each for each, _ in found] == sorted(each for each, _ in found)
    expected = {key: at for key, at in ready.items() if at is not None and key not in rests_s}
    assert {key: at for at, key in found} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_machine_and_job_are_ready_together(seed: int) -> None:
    """Second by second through a run whose jobs take what is expected: a machine is launched as late as it
    can be, and no job waits for one, unless nothing was under way early enough."""
    chance = random.Random(seed)  # noqa: S311
    steps = some_steps(chance, unknown=False)
    graph = Graph(steps)
    launched_s: dict[Key, float] = {}
    began_s: dict[Key, float] = {}
    ends_s: dict[Key, float] = {}
    done: set[Key] = set()
    readied_s: dict[Key, float] = dict.fromkeys(graph.ready(), 0.0)

    for now_s in range(2000):
        for key in [key for key in ends_s if ends_s[key] <= now_s and key not in done]:
            done.add(key)
            readied_s |= dict.fromkeys(graph.done(key), ends_s[key])
        for key in set(readied_s) - set(began_s):
            launched_s.setdefault(key, now_s)
            pace = _PACES[steps[key].rule]
            # When a machine is ready, its job takes what it takes on such a one.
            began_s[key] = max(now_s, launched_s[key] + pace.new_s)
            ends_s[key] = began_s[key] + (pace.whole_s or 0.0)
        rests_s: dict[Key, float | None] = {
            key: end_s - now_s for key, end_s in ends_s.items() if key not in done
        }
        demands = [
            Demand(key=key, ready_s=at, new_s=_PACES[steps[key].rule].new_s)
            for at, key in graph.soon_ready(rests_s, _PACES.__getitem__)
        ]
        supplies = [
            Supply(free_s=0.0, serves=lambda other, key=key: other == key)  # type: ignore[misc]
            for key in launched_s
            if key not in began_s
        ]
        for key in to_launch(demands, supplies, len(steps))[0]:
            launched_s[key] = now_s
        if len(done) == len(steps):
            break

    assert len(done) == len(steps)
    for key, step in steps.items():
        new_s = _PACES[step.rule].new_s
        if step.after:
            assert launched_s[key] == pytest.approx(max(0, readied_s[key] - new_s), abs=2)


def test_a_machine_that_will_be_free_serves() -> None:
    """Also one that is free a little later than its job is ready, if a new one would be later still."""
    demand = Demand(key="job", ready_s=10, new_s=30)
    for free_s, launches in ((0, []), (10, []), (29, []), (31, ["job"])):
        assert to_launch([demand], [Supply(free_s=free_s, serves=lambda _: True)], 9)[0] == launches
    assert to_launch([demand], [Supply(free_s=0, serves=lambda _: False)], 9)[0] == ["job"]
    two = [demand, Demand(key="other", ready_s=10, new_s=30)]
    assert to_launch(two, [Supply(free_s=0, serves=lambda _: True)], 9)[0] == ["other"]


def test_no_more_than_allowed_and_not_too_early() -> None:
    """What is later says when to ask again. A job for which none may be launched takes one all the same."""
    demands = [Demand(key=key, ready_s=key, new_s=30) for key in (10, 20, 50, 45)]
    assert to_launch(demands, [], 1) == ([10], 15)
    assert to_launch(demands, [], 9) == ([10, 20], 15)
    shy = Demand(key="shy", ready_s=1, new_s=30, launch=False)
    supply = Supply(free_s=0, serves=lambda _: True)
    assert to_launch([shy, demands[0]], [supply], 9) == ([10], None)


def test_what_is_usual() -> None:
    """The rule's median; of boots, else that of all rules; else what is assumed."""
    paces = Paces()
    assert paces.of("a").new_s == NEW_MACHINE_S
    assert paces.of("a").next_s == NEXT_S
    for seconds in (10, 30, 20):
        paces.add("a", "boot", seconds)
    paces.add("b", "run", 5)
    assert paces.of("a").boot_s == paces.of("b").boot_s == 20
    assert paces.of("a").run_s is None
    assert paces.of("b").run_s == 5
    assert paces.of("b").whole_s is None


def test_a_machine_is_ready_before_files_are_sent() -> None:
    """To send a job's files may take an hour; a machine is not launched that much earlier."""
    quick, slow = _PACES["quick"], replace(_PACES["quick"], prepare_s=3600)
    assert ready_s(slow, [quick]) == ready_s(quick, [slow]) == 30
    assert ready_s(_PACES["unknown"], [quick]) == 45
    assert ready_s(_PACES["unknown"], []) == NEW_MACHINE_S
