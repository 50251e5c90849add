"""For which jobs a machine is launched before they are ready. Pure.

A job is ready when the last job that it waits for has ended. When that is, is reckoned from how long jobs of
the same rules took before, through as many jobs in a row as it takes. A machine is launched when a new one
would be ready no later than its job, unless another machine serves that one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from snakemake_executor_ec2.model import Requirements
from snakemake_executor_ec2.sizing.reuse import NEW_MACHINE_S

Key = int | str
"""Names a job among all of a run."""
SOFTWARE_S = 50.0
"""How long software takes on a new machine, if it is not known."""
NEXT_S = 3.0
"""From a machine that is ready to the command that runs there, if no time is known: files."""
_SAMPLES = 99


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a machine must have for a job that is not ready yet."""

    label: str
    """The job's, the same in every run of a folder."""
    requirements: Requirements
    settled: bool = True
    """False: some amounts depend on files that are not there yet, and are not counted in."""
    unknown: bool = False
    """Some of these are the rule's own, and not Snakemake's default for all rules, which may be small."""
    tools: tuple[str, ...] = ()
    direct: Mapping[str, Any] | None = field(default=None, repr=False)
    """See `JobPlan`."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A job that is not done."""

    rule: str
    after: tuple[Key, ...] = ()
    """What it waits for, as far as that is not done."""
    needs: Needs | None = None
    """None: no machine is launched ahead for it."""
    here: bool = False
    """It runs on this computer."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What jobs of a rule are expected to take, in seconds; None: not known."""

    boot_s: float
    """A new machine's, from its launch."""
    prepare_s: float | None
    """From then to the job's command: software, and beside it files."""
    next_s: float
    """To the command on a machine that is ready: files."""
    run_s: float | None
    fetch_s: float | None
    """From its command's end to its own: results are fetched."""

    @property
    def new_s(self) -> float:
        """From a machine's launch to the job's command."""
        return self.boot_s + (SOFTWARE_S if self.prepare_s is None else self.prepare_s)

    @property
    def whole_s(self) -> float | None:
        """On a machine that is ready."""
        known = self.run_s is not None and self.fetch_s is not None
        return self.next_s + (self.run_s or 0.0) + (self.fetch_s or 0.0) if known else None


class Paces:
    """Medians of what jobs took."""

    def __init__(self) -> None:
        self._took: dict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=_SAMPLES))

    def add(self, rule: str, part: str, seconds: float) -> None:
        """`part` is that of a `Pace`: `boot`, `prepare`, `next`, `run` or `fetch`."""
        self._took[rule, part].append(seconds)

    def of(self, rule: str) -> Pace:
        prepare_s = self._median(rule, "prepare")
        # Not what other rules' files take: this one's may take long.
        next_s = self._usual(rule, "next", NEXT_S) if prepare_s is None else self._median(rule, "next")
        return Pace(
            boot_s=self._usual(rule, "boot", NEW_MACHINE_S - SOFTWARE_S),
            prepare_s=prepare_s,
            next_s=(prepare_s or NEXT_S) if next_s is None else next_s,
            run_s=self._median(rule, "run"),
            fetch_s=self._median(rule, "fetch"),
        )

    def _median(self, rule: str, part: str) -> float | None:
        took = self._took.get((rule, part))
        return median(took) if took else None

    def _usual(self, rule: str, part: str, otherwise: float) -> float:
        """That of the rule, else of all rules."""
        if (own := self._median(rule, part)) is not None:
            return own
        every = [each for (_, its), took in self._took.items() if its == part for each in took]
        return median(every) if every else otherwise


def ready_s(pace: Pace, alike: Iterable[Pace]) -> float:
    """From a machine's launch until it is ready for a job of a rule. The least that jobs of rules `alike`,
    which need the same software, took to their commands is next to what that software takes."""
    known = [each.prepare_s for each in (pace, *alike) if each.prepare_s is not None]
    return pace.boot_s + min(known, default=SOFTWARE_S)


class Graph:
    """Jobs that are not done, and which of them wait for which."""

    def __init__(self, steps: Mapping[Key, Step]) -> None:
        self.steps = steps
        self._missing = {key: len(set(step.after)) for key, step in steps.items()}
        self._children: dict[Key, list[Key]] = defaultdict(list)
        for key, step in steps.items():
            for other in set(step.after):
                self._children[other].append(key)

    def done(self, key: Key) -> list[Key]:
        """A job has ended well. Returns those that are ready thereby."""
        children = self._children.pop(key, [])
        for child in children:
            self._missing[child] -= 1
        return [child for child in children if not self._missing[child]]

    def ready(self) -> list[Key]:
        """Those that wait for no other."""
        return [key for key, missing in self._missing.items() if not missing]

    def soon_ready(
        self, rests_s: Mapping[Key, float | None], pace: Callable[[str], Pace]
    ) -> Iterator[tuple[float, Key]]:
        """In how many seconds jobs will be ready, the soonest first, as far as that can be told.

        `rests_s` are the jobs under way, with the time until they end; None: nobody knows."""
        missing: dict[Key, int] = {}
        ends: list[tuple[float, int, Key]] = []
        for number, (key, rest_s) in enumerate(rests_s.items()):
            if rest_s is not None:
                heapq.heappush(ends, (rest_s, number, key))
        number = len(rests_s)
        while ends:
            now_s, _, ended = heapq.heappop(ends)
            for key in self._children.get(ended, ()):
                missing[key] = missing.get(key, self._missing[key]) - 1
                if missing[key] or key in rests_s:
                    continue
                yield now_s, key
                takes_s = pace(self.steps[key].rule).whole_s
                if takes_s is not None:
                    number += 1
                    heapq.heappush(ends, (now_s + takes_s, number, key))


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A job that will be ready, and how long a new machine for it would take."""

    key: Key
    ready_s: float
    new_s: float
    launch: bool = True
    """False: no machine is launched for it, but it takes one that there is."""


@dataclass(frozen=True, kw_only=True)
class Supply:
    """A machine that is free, or will be."""

    free_s: float
    """In how many seconds."""
    serves: Callable[[Key], bool]
    """Whether a job may run there."""


def to_launch(
    demands: Sequence[Demand], supplies: Sequence[Supply], at_most: int
) -> tuple[list[Key], float | None]:
    """The jobs for which a machine is launched now, and in how many seconds to ask again; None: not before
    something happens. `demands`: the soonest first."""
    free = sorted(supplies, key=lambda each: each.free_s)
    launches: list[Key] = []
    again_s: list[float] = []
    for each in demands:
        soon = [it for it in free if it.free_s <= max(each.ready_s, each.new_s)]
        served = next((it for it in soon if it.serves(each.key)), None)
        if served is not None:
            free.remove(served)
        elif each.launch and each.ready_s > each.new_s:
            again_s.append(each.ready_s - each.new_s)
        elif each.launch and len(launches) < at_most:
            launches.append(each.key)
    return launches, min(again_s, default=None)
