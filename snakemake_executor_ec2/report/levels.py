"""What a run says, and how loudly: decided here and by the sentences that are a `Detail`.

    error     a job has failed, with the end of its output; the same for many jobs once (`failures.py`)
    warning   something is wrong, or may cost money that nobody meant to spend
    info      an event that matters: a machine is launched, a job runs, a job has ended; a wait that takes
              longer than `SLOW_S`, when it begins or goes on; the end of the run (`run_end.py`)
    debug     what goes well and quickly, and is in the report as well: `Detail`; shown with `--verbose`

Snakemake's `--quiet progress` leaves the events of single jobs out, as it does its own; `--quiet all`
everything. Warnings, failures and the end of the run stay with all others.
"""

from __future__ import annotations

SLOW_S = 5.0
"""What takes longer gets a line of its own, or is named in one."""
AGAIN_S = 10.0
"""A transfer that goes on is told so often at most."""


class Detail(str):
    """A sentence that is shown with `--verbose` only."""

    __slots__ = ()


class Lasting(str):
    """A sentence that `--quiet progress` does not leave out: it is about the run, not about a job."""

    __slots__ = ()


class Failed(str):
    """Why a job failed, in full."""

    brief: str
    like: str

    def __new__(cls, text: str, *, brief: str, like: str) -> Failed:
        """`like` is equal for jobs that failed in the same way; of these, all but the first get `brief`."""
        self = super().__new__(cls, text)
        self.brief = brief
        self.like = like
        return self
