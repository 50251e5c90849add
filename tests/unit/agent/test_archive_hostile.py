"""Archives from a machine that is up to no good."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.archive import ArchiveError, Contents, Entry, Refused, read_archive
from snakemake_executor_ec2.staging.links import LinkRules
from snakemake_executor_ec2.staging.paths import PathMap
from tests.unit.agent.test_archive import archive


def _member(
    name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def _hostile(*members: bytes) -> io.BytesIO:
    begin = _member(".snakemake-ec2-archive/begin.json", data=json.dumps({}).encode())
    end = _member(".snakemake-ec2-archive/end.json", data=json.dumps({}).encode())
    return io.BytesIO(begin + b"".join(members) + end + bytes(1024))


def _receive(stream: io.BytesIO, folder: Path) -> Contents:
    """As the controller does: what belongs below /work is placed in a folder."""

    def place(name: str) -> str:
        if not name.startswith("/work/"):
            raise ArchiveError(f"{name} was not asked for")
        return str(folder) + name.removeprefix("/work")

    names = ("d", "x", "abs", "good", "other")
    rules = LinkRules(
        paths=PathMap(here=folder, there=Path("/work")),
        made=[folder / name for name in names],
        inputs=[folder / "in", folder.parent / "far" / "in"],
        sources=[folder.parent / "flow" / "tool"],
        home=folder.parent / "home",
    )
    return read_archive(stream, place, judge=rules.judge)


_DIRECTORY, _LINK = tarfile.DIRTYPE, tarfile.SYMTYPE
_HOSTILE = {
    "not asked for": [_member("etc/passwd", data=b"x")],
    "absolute": [_member("/work/x", data=b"x")],
    "climbing": [_member("work/../../x", data=b"x")],
    "climbing in a directory": [_member("work/d", kind=_DIRECTORY), _member("work/d/../../x", data=b"x")],
    "dot": [_member("work/./x", data=b"x")],
    "empty": [_member("work//x", data=b"x")],
    "device": [_member("work/x", kind=tarfile.CHRTYPE)],
    "pipe": [_member("work/x", kind=tarfile.FIFOTYPE)],
    "hard link": [_member("work/x", kind=tarfile.LNKTYPE, link="/etc/passwd")],
    "link into a hidden folder": [_member("work/x", kind=_LINK, link=".git/hooks/pre-commit")],
    "link to the journal": [_member("work/x", kind=_LINK, link="/work/.snakemake/ec2/journal.sqlite")],
    "link into a hidden folder, by a detour": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/x", kind=_LINK, link="../..//here/./.snakemake/ec2/journal.sqlite"),
    ],
    "link into a hidden folder of somebody's": [_member("work/x", kind=_LINK, link="/home/u/.ssh/id")],
    "link onto code": [_member("work/x", kind=_LINK, link="Snakefile")],
    "link onto a profile": [_member("work/x", kind=_LINK, link="profiles/default/config")],
    "links that are harmful together": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/up", kind=_LINK, link="../.."),
        _member("work/x", kind=_LINK, link="d/up/home/.bashrc"),
    ],
    "links that are harmful together, in the other order": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/a", kind=_LINK, link="up/home/.bashrc"),
        _member("work/d/up", kind=_LINK, link="../.."),
    ],
    "link to source code elsewhere": [_member("work/x", kind=_LINK, link="../flow/tool")],
    "link to a folder that would be written into": [_member("work/x", kind=_LINK, link="..")],
    "link to nothing": [_member("work/x", kind=_LINK, link="")],
    "below a link": [_member("work/x", kind=_LINK, link="y"), _member("work/x/z", data=b"x")],
    "below a link in a directory": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/x", kind=_LINK, link="y"),
        _member("work/d/x/z", data=b"x"),
    ],
    "below a file": [_member("work/x", data=b"x"), _member("work/x/z", data=b"x")],
    "a link instead of a parent": [_member("work/x/z", data=b"x"), _member("work/x", kind=_LINK, link="y")],
    "twice": [_member("work/x", data=b"1"), _member("work/x", data=b"2")],
    "twice in a directory": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/x", data=b"1"),
        _member("work/d/x", data=b"2"),
    ],
    "link with content": [_member("work/x", kind=_LINK, link="y", data=b"1")],
    "after the end": [_member(".snakemake-ec2-archive/end.json", data=b"{}"), _member("work/x", data=b"1")],
}


@pytest.mark.parametrize("members", _HOSTILE.values(), ids=_HOSTILE)
def test_a_hostile_archive_is_refused(tmp_path: Path, members: list[bytes]) -> None:
    """Refused as a whole, with nothing written outside, and nothing left inside."""
    folder = tmp_path / "here"
    folder.mkdir()
    good = _member("work/good", data=b"good")
    with pytest.raises(ArchiveError):
        _receive(_hostile(good, *members), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert not [path for path in folder.rglob("*") if not path.is_dir()]


def test_links_that_do_no_harm_come_as_they_are(tmp_path: Path) -> None:
    """To what the job makes or reads, to system folders, to nothing, in a circle; nothing is followed."""
    folder = tmp_path / "here"
    folder.mkdir()
    harmless = {
        "d/up": "../x", "d/own": "y", "d/python": "/usr/bin/python3", "d/nothing": "/nowhere/at/all",
        "d/round": "round", "abs": f"{folder}/x", "other": f"{tmp_path}/far/in",
    }  # fmt: skip
    members = [_member(f"work/{name}", kind=_LINK, link=text) for name, text in harmless.items()]
    stream = _hostile(_member("work/d", kind=_DIRECTORY, mode=0o755), *members, _member("work/x", data=b"1"))
    assert len(_receive(stream, folder).placed) == 4
    assert {name: str((folder / name).readlink()) for name in harmless} == harmless
    assert (folder / "d" / "up").read_text() == "1"


def test_a_link_into_the_machines_working_directory_leads_into_ours(tmp_path: Path) -> None:
    """Where the working directory has another path there, absolute links are translated."""
    _receive(
        _hostile(_member("work/x", data=b"1"), _member("work/abs", kind=_LINK, link="/work/x")), tmp_path
    )
    assert (tmp_path / "abs").read_text() == "1"


def test_an_old_symlink_of_ours_does_not_hide_where_a_new_one_leads(tmp_path: Path) -> None:
    """In a directory that is about to be replaced, what was there before counts for nothing."""
    folder = tmp_path / "here"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "d").mkdir()
    (folder / "d" / "sub").symlink_to(folder / "deep" / "er")
    stream = _hostile(
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/sub", kind=_DIRECTORY),
        _member("work/d/sub/x", kind=_LINK, link="../../.git/config"),
    )
    with pytest.raises(Refused, match=r"\.git/config"):
        _receive(stream, folder)


def test_a_very_long_name_is_refused_at_once(tmp_path: Path) -> None:
    """Of a million folders within each other: no time is spent on them."""
    with pytest.raises(ArchiveError, match="too long"):
        _receive(_hostile(_member("work/d" + "/d" * 100_000, data=b"1")), tmp_path)


def test_holes_that_lie(tmp_path: Path) -> None:
    """A list of holes that is too long, out of order or out of the file is no reason to hang or to crash."""
    heads = [b"1\n0\n600\n", b"2\n8\n8\n0\n8\n", b"1\n0\n9\n", b"x" * 600, b"9" * 5000, b"-1\n", b"1\n"]
    for head in heads:
        info = tarfile.TarInfo("work/x")
        data = head + bytes(-len(head) % 512) + bytes(8)
        info.size = len(data)
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "16"}
        member = info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)
        with pytest.raises(ArchiveError):
            _receive(_hostile(member), tmp_path)
    assert not list(tmp_path.iterdir())


def test_set_user_id_is_not_taken_over(tmp_path: Path) -> None:
    """A machine decides about permissions, not about whose they are."""
    _receive(_hostile(_member("work/x", data=b"1", mode=0o6755)), tmp_path)
    assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("size", [-1, 2**40])
def test_sizes_that_lie(tmp_path: Path, size: int) -> None:
    """A header that promises too much or less than nothing is no reason to hang or to crash."""
    info = tarfile.TarInfo("work/x")
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError):
        _receive(_hostile(header), tmp_path)


def test_an_endless_extended_header_is_not_read(tmp_path: Path) -> None:
    """It must not fill the memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    with pytest.raises(ArchiveError, match="too large"):
        _receive(_hostile(info.tobuf(tarfile.GNU_FORMAT)), tmp_path)


def test_an_archive_of_somebody_elses(tmp_path: Path) -> None:
    """Without our note at its beginning nothing is placed."""
    stream = io.BytesIO(_member("work/x", data=b"1") + bytes(1024))
    with pytest.raises(ArchiveError, match="no archive of ours"):
        _receive(stream, tmp_path)


def test_a_full_disk_leaves_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while writing is the system's own, and what was written is removed."""
    source = tmp_path / "source"
    source.write_bytes(bytes(100))
    stream = archive(Entry(str(source), "/x"))

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        read_archive(stream, lambda _: str(tmp_path / "target"))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
