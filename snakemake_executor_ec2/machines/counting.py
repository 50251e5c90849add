"""Transfers are counted while they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snakemake_executor_ec2.agent.transfer import Progress
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.records.live import Live, Moving
from snakemake_executor_ec2.report.transfers import Told


@dataclass(kw_only=True)
class Transfers:
    """What is told and shown of transfers."""

    clock: Clock
    tell: Callable[[str], None]
    live: Live | None

    @contextmanager
    def going(self, key: str, way: str, what: str) -> Iterator[Progress]:
        """Around a transfer for the job of a key, which calls what it gets."""

        def show(done: int, of: int | None, per_s: float) -> None:
            if self.live is not None:
                self.live.moves(key, Moving(way=way, done=done, total=of, per_s=per_s))

        try:
            yield Told(what=what, now=self.clock.monotonic, tell=self.tell, show=show)
        finally:
            if self.live is not None:
                self.live.moves(key, None)


@dataclass(kw_only=True)
class InParts(Transfers):
    """Transfers one after the other that the user sees as one."""

    told: Told
    total: int
    """The bytes of all of them."""
    _before: int = 0

    @contextmanager
    def going(self, key: str, way: str, what: str) -> Iterator[Progress]:  # noqa: ARG002
        """Around one of them."""
        done_here = 0

        def progress(done: int, total: int) -> None:  # noqa: ARG001
            nonlocal done_here
            done_here = done
            self.told(min(self._before + done, self.total), self.total)

        yield progress
        self._before += done_here
