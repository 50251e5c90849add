"""When jobs would run, and on how many machines: a run imagined beforehand. Pure.

Jobs start in their order as soon as what they wait for has ended and fewer than allowed are under way. A
machine that has done a job takes the next of its kind, as `controller/idle.py` lets it.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job, or what other jobs wait for."""

    after: tuple[int, ...] = ()
    """The places of those tasks that must have ended."""
    kind: str | None = None
    """Tasks of a kind may follow each other on a machine. None: it needs no machine and no time."""
    seconds: float = 0.0
    """Of its work."""
    first_s: float = 0.0
    """Beside that, on a new machine."""
    next_s: float = 0.0
    """Beside that, on a machine that has done another job."""


@dataclass(frozen=True, kw_only=True)
class Stay:
    """A machine, and its tasks one after the other."""

    tasks: tuple[int, ...]
    seconds: float
    """From its launch to its end."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All tasks; times are in seconds since the beginning."""

    began_s: tuple[float, ...]
    ended_s: tuple[float, ...]
    stays: tuple[Stay, ...]

    @property
    def wall_s(self) -> float:
        """Until the last has ended."""
        return max(self.ended_s, default=0.0)


def schedule(tasks: Sequence[Task], *, at_a_time: int | None, idle_s: float | None) -> Schedule:
    """Let the tasks run. At most so many are under way `at_a_time` (None: any number). Machines wait for
    another job for at most `idle_s`; None: each ends with its first one. `after` must not go in circles."""
    return _Imagined(tasks, at_a_time or len(tasks) or 1, idle_s).run()


@dataclass
class _Machine:
    began_s: float
    tasks: list[int] = field(default_factory=list)
    ended_s: float = 0.0


class _Imagined:
    """A run under way."""

    def __init__(self, tasks: Sequence[Task], at_a_time: int, idle_s: float | None) -> None:
        self._tasks = tasks
        self._free = at_a_time
        self._idle_s = idle_s
        self._now = 0.0
        self._began = [0.0] * len(tasks)
        self._ended = [0.0] * len(tasks)
        self._waits_for = [len(set(each.after)) for each in tasks]
        self._before: dict[int, list[int]] = defaultdict(list)
        for number, each in enumerate(tasks):
            for other in set(each.after):
                self._before[other].append(number)
        self._ready: list[int] = []
        self._under_way: list[tuple[float, int]] = []
        self._coming = Counter(each.kind or "" for each in tasks)
        """Of each kind, those that have not been started."""
        self._machines: list[_Machine] = []
        self._at: dict[int, _Machine] = {}
        self._idle: dict[str, deque[_Machine]] = defaultdict(deque)
        """The one that waits longest comes first; `ended_s` is since when it waits."""

    def run(self) -> Schedule:
        for number in [each for each, count in enumerate(self._waits_for) if not count]:
            self._let_in(number)
        self._start_all()
        while self._under_way:
            self._now = self._under_way[0][0]
            while self._under_way and self._under_way[0][0] == self._now:
                self._end(heapq.heappop(self._under_way)[1])
            self._start_all()
        stays = [Stay(tasks=tuple(it.tasks), seconds=it.ended_s - it.began_s) for it in self._machines]
        return Schedule(began_s=tuple(self._began), ended_s=tuple(self._ended), stays=tuple(stays))

    def _let_in(self, number: int) -> None:
        """Nothing is in a task's way any more; one that takes no time has ended thereby."""
        waiting = [number]
        while waiting:
            number = waiting.pop()
            if self._tasks[number].kind is not None:
                heapq.heappush(self._ready, number)
                continue
            self._began[number] = self._ended[number] = self._now
            waiting += self._let_go(number)

    def _let_go(self, number: int) -> list[int]:
        """A task has ended; those that waited for it alone."""
        found = []
        for other in self._before[number]:
            self._waits_for[other] -= 1
            if not self._waits_for[other]:
                found.append(other)
        return found

    def _start_all(self) -> None:
        while self._ready and self._free:
            self._start(heapq.heappop(self._ready))
        for kind, waiting in self._idle.items():
            while len(waiting) > self._coming[kind]:
                self._leave(waiting.pop())

    def _start(self, number: int) -> None:
        task = self._tasks[number]
        kind = task.kind or ""
        self._coming[kind] -= 1
        self._began[number] = self._now
        self._free -= 1
        machine = self._used(kind)
        took_s = task.seconds + (task.next_s if machine else task.first_s)
        if machine is None:
            machine = _Machine(began_s=self._now)
            self._machines.append(machine)
        machine.tasks.append(number)
        self._at[number] = machine
        heapq.heappush(self._under_way, (self._now + took_s, number))

    def _leave(self, machine: _Machine) -> None:
        """A machine that waits ends, now or when it had waited for too long."""
        machine.ended_s = min(self._now, machine.ended_s + (self._idle_s or 0.0))

    def _used(self, kind: str) -> _Machine | None:
        """One that waits, and has not waited for too long."""
        waiting = self._idle[kind]
        while waiting and self._idle_s is not None:
            machine = waiting.popleft()
            if self._now - machine.ended_s <= self._idle_s:
                return machine
            self._leave(machine)
        return None

    def _end(self, number: int) -> None:
        kind, machine = self._tasks[number].kind or "", self._at.pop(number)
        self._free += 1
        machine.ended_s = self._ended[number] = self._now
        if self._idle_s is not None and self._coming[kind] > len(self._idle[kind]):
            self._idle[kind].append(machine)
        for other in self._let_go(number):
            self._let_in(other)
