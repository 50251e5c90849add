"""What is told of waits and transfers that take longer than a few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from snakemake_executor_ec2.formatting import size, span
from snakemake_executor_ec2.model import Transfer
from snakemake_executor_ec2.report.levels import AGAIN_S, SLOW_S

_SHOW_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Waits:
    """What a job has waited for on its machine before it could run."""

    boot_s: float = 0.0
    software_s: float = 0.0
    sent: Transfer | None = None

    def told(self) -> str:
        """For the line that says that it runs: only what took long."""
        parts = [
            f"{name} {span(seconds)}"
            for name, seconds in (("boot", self.boot_s), ("software", self.software_s))
            if seconds > SLOW_S
        ]
        if self.sent is not None and self.sent.seconds > SLOW_S:
            parts.append(f"inputs of {size(self.sent.bytes)} {span(self.sent.seconds)}")
        return f" (after {', '.join(parts)})" if parts else ""


@dataclass(kw_only=True)
class Told:
    """Bytes of a transfer as they pass: `show` hears of them every second, the user when it takes long, and
    then now and then."""

    what: str
    """`sending 3 files of rule a to i-1`."""
    now: Callable[[], float]
    """Seconds that only grow."""
    tell: Callable[[str], None]
    show: Callable[[int, int | None, float], None]
    """Gets the bytes that have passed, those in all (None: not known), and how many pass in a second."""
    _began: float = field(init=False)
    _told: float = field(init=False)
    _shown: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._shown = self.now()
        self._told = self._began + SLOW_S - AGAIN_S

    def __call__(self, done: int, total: int) -> None:
        """So many bytes have passed, of so many; 0: that is not known."""
        now = self.now()
        if now - self._shown < _SHOW_S:
            return
        self._shown = now
        of = total if total >= done else None
        rate = done / (now - self._began)
        self.show(done, of, rate)
        if now - self._told >= AGAIN_S:
            self._told = now
            self.tell(f"{self.what}: {moved(done, of, rate)}")


@contextmanager
def told_if_slow(tell: Callable[[str], None], text: str) -> Iterator[None]:
    """Around something that is told if it takes long. For what happens once in a run: it needs a thread."""
    timer = threading.Timer(SLOW_S, tell, [text])
    timer.daemon = True
    with suppress(RuntimeError):  # there can be no more threads: then it is not told
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def files(paths: Sized) -> str:
    """How many there are; a folder counts as one."""
    return f"{len(paths)} file{'s' * (len(paths) != 1)}"


def moved(done: int, total: int | None, per_s: float) -> str:
    """How far a transfer is, and how long it will take."""
    rate = f"{size(round(per_s))}/s"
    if total is None:
        return f"{size(done)} so far, {rate}"
    left = f", {span((total - done) / per_s)} left" if per_s > 0 else ""
    return f"{size(done)} of {size(total)}, {rate}{left}"
