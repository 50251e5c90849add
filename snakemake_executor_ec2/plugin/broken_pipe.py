"""Output for a user who may have left: `snakemake … | head`, a terminal that is gone."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Callable

_STREAMS = (1, 2)
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tabs and line feeds, those that change the direction of text, and surrogates."""


def unbroken(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, which never fails because nobody reads any more. Snakemake's own output would, from
    then on: what leads nowhere leads to the null device instead, and `.snakemake/log` has it all."""

    def told(text: str) -> None:
        try:
            tell(plain(text))
        except OSError as error:
            if not nobody_reads(error):
                raise
            lead_nowhere()

    return told


def plain(text: str) -> str:
    """Text for a terminal, in which whatever could command it is spelled out: what a job printed, a file's
    name or a machine's message may hold escape sequences. Files keep what there was."""
    return _COMMANDS.sub(lambda found: _spelled(ord(found[0])), text)


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def nobody_reads(error: OSError) -> bool:
    """Whether an error means that a pipe has no reader (EPIPE), or a terminal is gone (EIO)."""
    return error.errno in (errno.EPIPE, errno.EIO)


def ended_by(name: str, detach: bool) -> str:
    """The sentence for a run that a signal ends."""
    if name == "SIGHUP":
        lead_nowhere()  # a terminal that is gone takes no more: the log has it all
    why = {"SIGHUP": "its terminal was closed"}.get(name, "it was told to end")
    what = "machines with running jobs stay at work (--ec2-detach)" if detach else "its machines are ended"
    return f"{name}: {why}; the run ends as with Ctrl-C, and {what}"


def lead_nowhere() -> None:
    """Redirect standard output and standard error if nobody reads them any more."""
    for stream in _STREAMS:
        look = select.poll()
        look.register(stream, 0)
        if any(what & select.POLLERR for _, what in look.poll(0)):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream)
            os.close(null)
