"""One upload over several channels, on a host whose channels fail."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.transfer import Upload
from snakemake_executor_ec2.errors import StagingError
from snakemake_executor_ec2.ports import Completed, RemoteHost


class Host:
    """Its lanes end as the test says; its `unpack` reads nothing and fails once its input ends."""

    round_trip_s = 0.05
    bulk_bytes = 0

    def __init__(self, lane: Callable[[], Completed]) -> None:
        self.lane = lane

    def upload(self, command: str, write: Callable[[BinaryIO], None], **_: object) -> Completed:
        if " lane " in command:
            return self.lane()
        with contextlib.suppress(BrokenPipeError):
            write(io.BytesIO())
        return Completed(exit_code=1, stdout=b"", stderr=b"it is not ours")

    def close(self) -> None:
        """Nothing is open."""


def _bug() -> Completed:
    raise ValueError("a bug")


@pytest.mark.parametrize(
    ("lane", "expected"),
    [(lambda: Completed(exit_code=0, stdout=b"", stderr=b""), StagingError), (_bug, ValueError)],
    ids=["ends early, and says that all is well", "raises what nobody expects"],
)
def test_a_lane_that_ends_is_not_waited_for(
    tmp_path: Path, lane: Callable[[], Completed], expected: type[Exception]
) -> None:
    """The upload ends, too, with what its own command says."""
    (tmp_path / "large").write_bytes(os.urandom(16 << 20))
    upload = Upload([Entry(str(tmp_path / "large"), "/w/large")])
    caught: list[Any] = []

    def run() -> None:
        try:
            upload.over(cast("RemoteHost", Host(lane)))
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(caught[0], expected)
