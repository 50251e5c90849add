"""Telling the user, who may have left: `snakemake … | head`, a terminal that is gone."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

_STREAMS = (1, 2)


def unbroken(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, which never fails because nobody reads any more. Snakemake's own output would, from
    then on: what leads nowhere leads to the null device instead, and `.snakemake/log` has it all."""

    def told(text: str) -> None:
        try:
            tell(text)
        except BrokenPipeError:
            lead_nowhere()

    return told


def lead_nowhere() -> None:
    """Redirect standard output and standard error, where nobody reads them any more."""
    for stream in _STREAMS:
        look = select.poll()
        look.register(stream, 0)
        if any(what & select.POLLERR for _, what in look.poll(0)):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream)
            os.close(null)
