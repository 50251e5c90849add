"""A computer whose clock is set while Python runs: on PYTHONPATH of the controller, for chaos runs.

`CHAOS_CLOCK` names a file whose text is the seconds by which `time.time()` is off; monotonic
clocks are not, as on a real computer.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_FILE = os.environ.get("CHAOS_CLOCK")
_true_time = time.time
_LOOK_EVERY_S = 0.2


class _Jumping:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._off_s = 0.0
        self._looked = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now - self._looked > _LOOK_EVERY_S:
            self._looked = now
            with suppress(OSError, ValueError):
                self._off_s = float(self._file.read_text())
        return _true_time() + self._off_s


if _FILE:
    time.time = _Jumping(Path(_FILE))

if os.environ.get("CHAOS_COMPUTER"):  # another one with the same folder, on which locks end with the computer
    import fcntl
    from dataclasses import replace

    from snakemake_executor_ec2.records import whereabouts

    _here = whereabouts.here
    _name = os.environ["CHAOS_COMPUTER"]
    whereabouts.here = lambda folder: replace(_here(folder), host=_name, boot=_name)
    fcntl.flock = lambda *_: None
