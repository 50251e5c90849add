"""What is told of waits and transfers that take longer than a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Sized
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
class Progress:
    """Bytes of a transfer as they pass: `show` hears of them every second, the user when it takes long, and
    then now and then."""

    what: str
    """`sending 3 files of rule a to i-1`."""
    total: Callable[[], int | None]
    """Bytes in all, asked for once it takes long; None: not known."""
    now: Callable[[], float]
    """Seconds that only grow."""
    tell: Callable[[str], None]
    show: Callable[[int, int | None, float], None]
    """Gets the bytes that have passed, those in all (None: not known), and how many pass in a second."""
    done: int = 0
    _began: float = field(init=False)
    _told: float = field(init=False)
    _shown: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._shown = self.now()
        self._told = self._began + SLOW_S - AGAIN_S

    def __call__(self, count: int) -> None:
        """So many more bytes have passed."""
        self.done += count
        now = self.now()
        if now - self._shown < _SHOW_S:
            return
        self._shown = now
        total = self._all()
        rate = self.done / (now - self._began)
        self.show(self.done, total, rate)
        if now - self._told >= AGAIN_S:
            self._told = now
            self.tell(f"{self.what}: {moved(self.done, total, rate)}")

    def _all(self) -> int | None:
        """What is on the line is a little more than what is in the files."""
        total = self.total()
        return total if total is not None and total >= self.done else None


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
