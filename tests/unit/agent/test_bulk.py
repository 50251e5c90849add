"""Much data, told to be much: on a host that has a faster way for it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.agent.transfer import Download, Upload
from snakemake_executor_ec2.errors import ConnectionLost, StagingError
from snakemake_executor_ec2.ports import RemoteHost
from tests.fakes.remote_host import FakeMachine, FakeRemoteHost

_BULK = 1 << 20


class Host:
    """A host that keeps in mind what was told to be much, and may break in its midst."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self._host = FakeRemoteHost(machine)
        self.told: list[tuple[str, bool]] = []
        self.breaks: list[int] = []
        """After so many bytes, each time that something is much."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def upload(self, command: str, write: Callable[[BinaryIO], None], *, bulk: bool = False) -> Any:
        return self._told("up", bulk, lambda: self._host.upload(command, write))

    def download(
        self, command: str, read: Callable[[BinaryIO], Any], *, stdin: bytes = b"", bulk: bool = False
    ) -> Any:
        return self._told("down", bulk, lambda: self._host.download(command, read, stdin=stdin))

    def _told(self, direction: str, bulk: bool, call: Callable[[], Any]) -> Any:
        self.told.append((direction, bulk))
        if bulk and self.breaks:
            self.machine.cut_after_bytes = self.breaks.pop(0)
        try:
            return call()
        except ConnectionLost:
            self._host = FakeRemoteHost(self.machine)
            raise


@pytest.fixture
def host(tmp_path: Path) -> Host:
    home = tmp_path / "home"
    home.mkdir()
    host = Host(FakeMachine(home=home, host_key="key", bulk_bytes=_BULK))
    Agent(cast("RemoteHost", host)).install()
    Agent(cast("RemoteHost", host)).workdir([str(home / "w")])
    return host


def _file(path: Path, size: int) -> bytes:
    path.write_bytes(os.urandom(size))
    os.utime(path, (1, 1))
    return path.read_bytes()


def _until_done(use: Callable[[RemoteHost], Any], host: Host) -> int:
    for attempt in range(1, 10):
        try:
            use(cast("RemoteHost", host))
        except ConnectionLost:
            continue
        return attempt
    raise AssertionError


@pytest.mark.parametrize(("size", "bulk"), [(_BULK // 2, False), (_BULK * 3, True)])
def test_it_is_told_by_its_size(host: Host, tmp_path: Path, size: int, bulk: bool) -> None:
    """Up at once; what comes down is only known on the machine, which is asked a second time."""
    content = _file(tmp_path / "file", size)
    there, back = host.machine.home / "w" / "file", tmp_path / "back"
    Upload([Entry(str(tmp_path / "file"), str(there))]).over(cast("RemoteHost", host))
    with Download([], lambda _: str(back), must=[str(there)], judge=lambda _t, x, _e: x) as download:
        fetched = download.over(cast("RemoteHost", host))
    assert (fetched.size, fetched.kinds) == (size, {str(there): "file"})
    assert back.read_bytes() == there.read_bytes() == content
    assert host.told == [("up", bulk), ("down", False), *([("down", True)] if bulk else [])]


def test_lines_that_break_lead_back_to_the_connection(host: Host, tmp_path: Path) -> None:
    """After two attempts; what has arrived is not sent again."""
    host.breaks = [_BULK * 2, _BULK * 2, _BULK * 2, _BULK * 2]
    content = _file(tmp_path / "file", _BULK * 8)
    there, back = host.machine.home / "w" / "file", tmp_path / "back"
    upload = Upload([Entry(str(tmp_path / "file"), str(there))])
    assert _until_done(upload.over, host) == 3
    assert [bulk for _, bulk in host.told] == [True, True, False]
    host.told.clear()
    with Download([], lambda _: str(back), must=[str(there)], judge=lambda _t, x, _e: x) as download:
        assert _until_done(download.over, host) == 3
    assert [bulk for _, bulk in host.told] == [False, True, False, True, False]
    assert back.read_bytes() == there.read_bytes() == content


def test_what_is_left_may_be_little(host: Host, tmp_path: Path) -> None:
    """What has arrived before a cut does not count."""
    host.machine.bulk_bytes = host._host.bulk_bytes = _BULK * 4
    host.breaks = [_BULK * 6 - 100_000]
    content = _file(tmp_path / "file", _BULK * 6)
    back = tmp_path / "back"
    there = host.machine.home / "w" / "file"
    there.write_bytes(content)
    os.utime(there, (1, 1))
    with Download([], lambda _: str(back), must=[str(there)], judge=lambda _t, x, _e: x) as download:
        assert _until_done(download.over, host) == 2
    assert host.told == [("down", False), ("down", True), ("down", False)]
    assert back.read_bytes() == content


def test_a_machine_that_puts_off_for_ever_is_not_believed(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job would count as fetched whose results never came."""
    there = host.machine.home / "w" / "file"
    _file(there, _BULK * 3)
    always = functools.partial(_with_most, host._host.download)
    monkeypatch.setattr(host._host, "download", always)
    with (
        pytest.raises(StagingError, match="puts off"),
        Download([], lambda _: str(tmp_path / "back"), must=[str(there)], judge=lambda _t, x, _e: x) as one,
    ):
        one.over(cast("RemoteHost", host))
    assert not (tmp_path / "back").exists()


def _with_most(
    download: Callable[..., Any], command: str, read: Callable[[BinaryIO], Any], *, stdin: bytes
) -> Any:
    asked = stdin if b'"most"' in stdin else stdin[:-1] + b', "most": 0}'
    return download(command, read, stdin=asked)
