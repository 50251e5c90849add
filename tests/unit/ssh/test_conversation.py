"""What a command over ssh says, line by line, however it comes."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from snakemake_executor_ec2.agent import talking
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.errors import ConnectionLost, InstanceLost
from snakemake_executor_ec2.ports import LINE_BYTES
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.conversation import SshConversation
from tests.contract.rigs import server
from tests.sshd import LOOPBACK, Server

__all__ = ["server"]


class _Says:
    """A command that says something, piece by piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def receive(self, _size: int, _timeout_s: float | None) -> bytes:
        return next(self._pieces, b"")


def _conversation(pieces: Iterator[bytes], close: Callable[[], None] = lambda: None) -> SshConversation:
    return SshConversation(cast("Any", _Says(pieces)), close)


def test_lines_come_whole() -> None:
    """Wherever they were cut; what has no end is none."""
    heard = _conversation(iter([b"a", b"b\nc\n\nd", b"e", b"\n", b"f"]))
    assert [heard.line(None) for _ in range(5)] == [b"ab", b"c", b"", b"de", None]


def test_a_line_without_end_is_not_waited_for() -> None:
    """Nor kept."""
    with pytest.raises(InstanceLost, match="a line without end"):
        _conversation(iter([b"x" * (1 << 20)] * (1 + (LINE_BYTES >> 20)))).line(None)


def test_lines_without_end_are_heard_until_the_deadline() -> None:
    """Short ones cost little, and who only talks has not answered."""
    closed: list[bool] = []
    heard = _conversation(iter(lambda: b"\n" * (1 << 20), b""), lambda: closed.append(True))
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="did not answer in time"):
        _hear_all(heard, began + 0.3)
    assert closed
    assert time.monotonic() - began < 20


def _hear_all(heard: SshConversation, deadline: float) -> None:
    while heard.line(deadline) is not None:
        pass


def test_a_connection_that_is_over_is_not_kept(server: Server) -> None:
    """With a talk that no job's start has ended: a run of days has many of them."""
    connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
    host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)
    Agent(host).settle()
    assert host in talking._TALKS
    host.close()
    seen = weakref.ref(host)
    del host
    gc.collect()
    assert seen() is None
