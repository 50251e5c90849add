"""What a run says, through Snakemake's logger: at the level that it has (see `report/levels.py`)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from snakemake_executor_ec2.plugin import snakemake_private
from snakemake_executor_ec2.plugin.broken_pipe import plain, unbroken
from snakemake_executor_ec2.report.levels import Detail, Failed, Lasting


class Voice:
    """Of one run. Threads share it."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._failed = Counter[str]()
        self.warn = unbroken(logger.warning)

    def tell(self, text: str) -> None:
        """An event; a `Detail` is for those who asked for it."""
        if isinstance(text, Detail):
            unbroken(self._logger.debug)(text)
        elif isinstance(text, Lasting):
            unbroken(self._logger.info)(text)
        else:
            unbroken(self._step)(text)

    def _step(self, text: str) -> None:
        self._logger.info(text, extra=snakemake_private.as_progress())

    def failed(self, why: str) -> None:
        """A job has failed. What fails in the same way is told in full once, in a line the second time, and
        then when there are ten, a hundred, …; Snakemake names each job."""
        count = 1
        if isinstance(why, Failed):
            self._failed[why.like] += 1
            count = self._failed[why.like]
        if count == 1 or not isinstance(why, Failed):
            self._logger.error(plain(why))
        elif count == 2 or (count % 10 == 0 and str(count).strip("0") == "1"):
            number = "" if count == 2 else f" ({count} jobs up to now)"
            self._logger.error(plain(f"{why.brief}{number}"))
        else:
            self._logger.debug(plain(why.brief))
