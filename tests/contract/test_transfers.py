"""Transfers between controller and machine over connections that break, on every kind of server."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from snakemake_executor_ec2.agent import striping, transfer
from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.agent.transfer import Download, Progress, Upload
from snakemake_executor_ec2.errors import ConnectionLost, StagingError
from snakemake_executor_ec2.ports import RemoteHost
from tests.contract.rigs import Rig

T = TypeVar("T")

_SIZE = 20 << 20
_CUTS = (0.1, 0.5, 0.9)
_UNDER_WAY = 5 << 20
"""At most: a channel's window, a pipe, a frame that is not whole, the sockets of the wire."""


class _Breaking:
    """A line that breaks at some points of a transfer, once at each."""

    def __init__(self, rig: Rig, break_: Callable[[], None]) -> None:
        self._rig = rig
        self._break = break_
        self._host: RemoteHost | None = rig.host
        self._left = [int(share * _SIZE) for share in _CUTS]
        self.attempts = 0
        self.came_further: list[bool] = []

    def progress(self, done: int, total: int) -> None:
        assert done <= total == _SIZE
        if self._left and done >= self._left[0]:
            self._left.pop(0)
            self._break()

    def call(self, use: Callable[[RemoteHost], T]) -> T:
        """As `Connection.call`: again, over a new connection."""
        while True:
            self.attempts += 1
            host = self._host or self._rig.connect()
            self._host = None
            try:
                return use(host)
            except ConnectionLost as error:
                self.came_further.append(error.came_further)
            finally:
                if host is not self._rig.host:
                    host.close()


def _tree(folder: Path) -> dict[str, bytes]:
    """Half of it in small files."""
    (folder / "small").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(_SIZE // 2))
    for number in range(640):
        (folder / "small" / f"{number}").write_bytes(os.urandom(_SIZE // 1280))
    time.sleep(0.1)  # what has just been written is not sure to stay as it is
    return _contents(folder)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _upload(source: Path, target: Path, progress: Progress) -> Callable[[RemoteHost], object]:
    return Upload([Entry(str(source), str(target))], progress=progress).over


@pytest.mark.parametrize("direction", ["up", "up over lanes", "down"])
def test_a_transfer_over_a_line_that_breaks_is_sent_once(
    rig: Rig, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at 10, 50 and 90 %: each cut costs what was under way and no more, nothing is left beside the
    files, and they are as they were. (`benchmarks/staging.py` shows less than a tenth in all, at 128 MiB.)"""
    here, there = tmp_path / "a" / "here", rig.home / "work" / "there"
    Agent(rig.host).install()
    Agent(rig.host).workdir([str(there.parent)])
    line = _Breaking(rig, rig.cut)
    before = rig.carried()
    monkeypatch.setattr(striping, "_FAR_S", 0.0 if "lanes" in direction else 60.0)
    if direction != "down":
        content, target = _tree(here), there
        line.call(_upload(here, there, line.progress))
    else:
        content, target = _tree(there), here
        with Download(
            [], lambda _: str(here), must=[str(there)], judge=lambda _t, x, _e: x, progress=line.progress
        ) as download:
            assert line.call(download.over).kinds == {str(there): "directory"}
    assert line.attempts == 4
    # Of an upload that shows at the next attempt, and what was under way has not arrived. Not each attempt
    # need come further: what is in buffers after one cut may be all up to the next.
    assert any(line.came_further) or direction == "up over lanes"
    assert line.came_further[0] == (direction == "down")
    assert _contents(target) == content
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert rig.carried() - before < 1.02 * _SIZE + len(_CUTS) * _UNDER_WAY * (
        3 if "lanes" in direction else 1
    )


def test_an_upload_goes_on_while_its_last_attempt_still_waits(rig: Rig, tmp_path: Path) -> None:
    """The machine may not know yet that the connection is gone: it is told, and goes on from there."""
    here, there = tmp_path / "here", rig.home / "work" / "there"
    Agent(rig.host).install()
    Agent(rig.host).workdir([str(there.parent)])
    content = _tree(here)
    upload = Upload([Entry(str(here), str(there))])

    class Waiting:
        """A host whose upload is left alone in its midst."""

        round_trip_s = 0.0
        bulk_bytes = 0

        def upload(self, command: str, write: Callable[..., None], **_: object) -> object:
            waiting = left.enter_context(rig.host._execute(command))  # type: ignore[attr-defined]

            class Part:
                left = _SIZE // 2

                def write(self, data: bytes) -> int:
                    view = memoryview(data)
                    while view:
                        if self.left <= 0:
                            time.sleep(0.5)
                            raise ConnectionLost("left alone")
                        view = view[(count := waiting.send(view)) :]
                        self.left -= count
                    return len(data)

                def flush(self) -> None:
                    """Nothing is held back."""

            write(Part())
            raise AssertionError

    with contextlib.ExitStack() as left:
        with pytest.raises(ConnectionLost):
            upload.over(Waiting())  # type: ignore[arg-type]
        other = rig.connect()
        before = rig.carried()
        assert upload.over(other) == _SIZE
        other.close()
    assert _contents(there) == content
    assert rig.carried() - before < 0.6 * _SIZE


def test_an_answer_that_was_lost_is_no_reason_to_send_again(rig: Rig, tmp_path: Path) -> None:
    """All was in place: asked again, the machine says so."""
    (tmp_path / "here").write_bytes(b"content")
    Agent(rig.host).install()
    upload = Upload([Entry(str(tmp_path / "here"), str(rig.home / "there"))])
    upload.over(rig.host)
    (tmp_path / "here").unlink()
    assert upload.over(rig.host) == 7


def test_a_line_that_lets_nothing_through_is_given_up(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many attempts of which nothing arrived, with a sentence that says what to look for."""
    monkeypatch.setattr(transfer, "_IN_VAIN_S", 0.0)
    monkeypatch.setattr(transfer, "_MOST_IN_VAIN", 5)
    (tmp_path / "here").write_bytes(bytes(100))
    Agent(rig.host).install()
    upload = Upload([Entry(str(tmp_path / "here"), str(rig.home / "there"))])

    class Broken:
        round_trip_s = 0.0
        bulk_bytes = 0

        def run(self, *arguments: object, **more: object) -> object:
            return rig.host.run(*arguments, **more)  # type: ignore[arg-type]

        def upload(self, *_: object, **__: object) -> None:
            raise ConnectionLost("it broke")

    errors: list[type[BaseException]] = []
    while StagingError not in errors:
        with pytest.raises((ConnectionLost, StagingError)) as caught:
            upload.over(Broken())  # type: ignore[arg-type]
        errors.append(caught.type)
    assert len(errors) == 7
    assert "nothing more had arrived" in str(caught.value)
