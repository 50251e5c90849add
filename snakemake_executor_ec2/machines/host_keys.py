"""What to do with machines that keep the host key from their user-data.

Anyone who may read user-data has that key and could impersonate the machine: by default nothing is sent
(docs/decisions/0023).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from snakemake_executor_ec2.errors import PreparationError
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ports import Clock

UNRENEWED = 2
"""After this many machines of a run that kept their first key, and none that renewed it, no more are
launched."""
_READABLE = (
    "which anyone who may read its user-data in your AWS account (ec2:DescribeInstanceAttribute) can read"
)


SHARED_S = 5.0
"""For how long a first host key is given to new machines: none of them boots in that time, so no job runs
yet that could read it there."""


class FirstKeys:
    """First host keys for a run's machines; threads share it.

    Machines that are launched by one call have the same user-data, so those of jobs that come together have
    the same first key. Each of them replaces it by its own before anything is sent to it.
    """

    def __init__(self, *, first_is_enough: bool, clock: Clock, make: Callable[[], KeyPair]) -> None:
        """`first_is_enough`: machines may keep theirs, so none is shared."""
        self._shared_s = 0.0 if first_is_enough else SHARED_S
        self._clock = clock
        self._make = make
        self._lock = threading.Lock()
        self._latest: KeyPair | None = None
        self._until = 0.0

    def take(self) -> KeyPair:
        """The first key of a machine that is about to be launched."""
        with self._lock:
            now = self._clock.monotonic()
            if self._latest is None or now >= self._until:
                self._latest, self._until = self._make(), now + self._shared_s
            return self._latest


class HostKeys:
    """One for a run; threads share it."""

    def __init__(self, *, first_is_enough: bool, tell: Callable[[str], None]) -> None:
        """`first_is_enough`: --ec2-allow-first-host-key."""
        self._first_is_enough = first_is_enough
        self._tell = tell
        self._lock = threading.Lock()
        self._any_renewed = False
        self._unrenewed: dict[str, str] = {}

    def renewed(self) -> None:
        """A machine shows a key of its own."""
        with self._lock:
            self._any_renewed = True

    def not_renewed(self, machine_id: str, why: str) -> None:
        """A machine keeps its first key. Raises PreparationError, or warns once a run."""
        with self._lock:
            is_first = not self._unrenewed
            self._unrenewed[machine_id] = why
        if not self._first_is_enough:
            raise PreparationError(_refusal(machine_id, why))
        if is_first:
            self._tell(
                f"the host key of {machine_id} could not be renewed ({why}): it keeps the first one, "
                f"{_READABLE}; data is sent all the same (--ec2-allow-first-host-key), also to others like it"
            )

    def check(self) -> None:
        """Raise PreparationError where another machine's key would not be renewed either."""
        with self._lock:
            if not self._first_is_enough and not self._any_renewed and len(self._unrenewed) >= UNRENEWED:
                machine_id, why = list(self._unrenewed.items())[-1]
                raise PreparationError(f"Nothing more is launched. {_refusal(machine_id, why)}")


def _refusal(machine_id: str, why: str) -> str:
    return (
        f"The host key of {machine_id} could not be renewed ({why}): it keeps the first one, {_READABLE}. "
        "No data was sent to it. Start from an image whose user may use sudo (--ec2-ami), or send data all "
        "the same with --ec2-allow-first-host-key."
    )
