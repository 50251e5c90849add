"""A job that needs no machine. Imported at every start of Snakemake."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake_executor_ec2.model import JobOutcome


class Settled:
    """The story of a job that needed no machine, or is refused one."""

    def __init__(self, refused: str = "") -> None:
        self._refused = refused

    def done(self) -> bool:
        return True

    def result(self) -> JobOutcome:
        from snakemake_executor_ec2.model import JobOutcome

        return JobOutcome(ok=not self._refused, message=self._refused)
