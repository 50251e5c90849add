"""Whatever a machine sends: no hang, no growth, no error but the project's own, nothing written elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.agent import answers
from snakemake_executor_ec2.agent.archive import ArchiveError, read_archive
from snakemake_executor_ec2.agent.client import Agent, JobStart
from snakemake_executor_ec2.agent.extract import remove
from snakemake_executor_ec2.agent.frames import BEGIN, DATA, END, ITEMS
from snakemake_executor_ec2.agent.protocol import Line, parse_line
from snakemake_executor_ec2.agent.stash import Stash
from snakemake_executor_ec2.agent.transfer import Download, Upload
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.plugin.broken_pipe import plain
from snakemake_executor_ec2.ports import Completed
from snakemake_executor_ec2.staging.links import LinkRules, dangling, noting
from snakemake_executor_ec2.staging.machine_links import MachineLinks
from snakemake_executor_ec2.staging.paths import PathMap, sendings
from tests.unit.agent.test_archive_hostile import frame, hostile, member

T = TypeVar("T")
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

_words = st.sampled_from(
    ["at", "event", "output", "t", "type", "finished", "sample", "started", "exit_code", "failure", "seconds",
     "peak_mem_mib", "cpu_seconds", "peak_disk_mib", "mem_mib", "disk_mib", "pid", "spot_notice", "lost",
     "pulse", "answers", "path", "ok", "reason", "files", "locked", "versions", "python", "how", "host_key",
     "now", "paths", "kind", "why", "state", "readable", "error", "log", "/w/a"]
)  # fmt: skip
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 1 << 70),
    st.floats(),
    st.text(max_size=20),
    _words,
)
_json = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_words, inner, max_size=6)),
    max_leaves=20,
)
_lines = st.one_of(
    st.binary(max_size=200),
    _json.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 200_000, b'{"a":' * 100_000, b"9" * 100_000, b"\xff" * 99, b'{"now": Infinity}']),
)


@settings(max_examples=300, deadline=None, phases=_PHASES)
@given(line=_lines)
def test_events(line: bytes) -> None:
    """A line is understood or left out; offsets and sizes are what a file can have."""
    parsed = parse_line(line)
    assert parsed is None or isinstance(parsed, Line)
    if parsed is not None:
        assert 0 <= parsed.at.events < 1 << 63
        assert 0 <= parsed.at.output < 1 << 63


class _Says:
    """A host that answers each command with the same."""

    round_trip_s = 0.0
    bulk_bytes = 1
    """Everything is much: so `pack` is asked whether it is."""

    def __init__(self, output: bytes, exit_code: int) -> None:
        self._done = Completed(exit_code=exit_code, stdout=output, stderr=output[:1000])

    def run(self, *_: object, **__: object) -> Completed:
        return self._done

    def upload(self, _: str, write: Callable[[BinaryIO], None], **__: object) -> Completed:
        write(io.BytesIO())
        return self._done

    def download(self, _: str, read: Callable[[BinaryIO], T], **__: object) -> T:
        return read(io.BytesIO(self._done.stdout))

    def lines(self, *_: object, **__: object) -> Iterator[bytes]:
        yield from self._done.stdout.splitlines()


@settings(max_examples=300, deadline=None, phases=_PHASES)
@given(output=_lines, exit_code=st.sampled_from([0, 0, 0, 1, -9]))
def test_answers(output: bytes, exit_code: int) -> None:
    """Every command of the agent's, the exchange of host keys among them: a value of the expected form, or
    a sentence."""
    host = cast(Any, _Says(output, exit_code))
    agent = Agent(host)
    job = JobStart(key="k", command="true", cwd="/w", label="l")
    asked: list[Callable[[], object]] = [
        agent.install, agent.new_host_key, agent.rotate_host_key, lambda: agent.guard(1), agent.renew,
        lambda: agent.software(Software(snakemake="9")), lambda: agent.workdir(["/w/a"]),
        lambda: Upload([]).over(host),
        lambda: Download(["/w/a"], lambda _: None, judge=lambda _t, x, _e: x).over(host),
        lambda: agent.stand_ins([], [], [], 0), lambda: agent.left("k", [], []), lambda: agent.start(job),
        lambda: list(agent.follow("k")), lambda: agent.status("k"),
    ]  # fmt: skip
    for ask in asked:
        with contextlib.suppress(Ec2ExecutorError):
            ask()


@settings(max_examples=200, deadline=None, phases=_PHASES)
@given(answer=st.dictionaries(_words, _json, max_size=5))
def test_what_becomes_a_command_line_elsewhere(answer: dict[str, Any]) -> None:
    """Versions are `name==version` and nothing else; a host key has the form of one."""
    for each in answers.locked_of(answer):
        assert "==" in each
        assert not each.startswith("-")
        assert not set(each) & set(" /:@\n'\"$`;=-".replace("=", "").replace("-", ""))
    assert answers.versions_of(answer, ">=3.11")[0] in "<>=!~0123456789"
    key = answers.host_key_of(answer)
    assert key is None or (key.startswith("ssh-ed25519 ") and "\n" not in key)


@pytest.mark.parametrize(
    "locked",
    [
        ["--index-url=https://evil.example"], ["a==1", "-r/etc/passwd"], ["a @ https://evil.example/a.whl"],
        ["a==1 --pre"], ["a==1\n-e ."], ["./a"], ["a==https://x"], ["a"], [["a==1"]], "a==1", ["a==1"] * 9999,
    ],
)  # fmt: skip
def test_versions_that_are_none(locked: object) -> None:
    """One that has another form spoils them all: nothing of it reaches `uv pip install` elsewhere."""
    assert answers.locked_of({"locked": locked}) == ()
    assert answers.locked_of({"locked": ["numpy==2.1.0", "ruamel.yaml==0.18.6", "torch==2.4.1+cpu"]})


_odd_names = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".git", "ec2", "Snakefile", "x\0", "a" * 300]),
    min_size=1,
    max_size=5,
).map("/".join)
_usual_names = st.sampled_from(["a", "b", "a/x", "a/y", "a/x/z", "b/x"])
_names = st.integers(0, 15).flatmap(lambda odd: _usual_names if odd else _odd_names)
_texts = st.lists(
    st.sampled_from(["..", "..", "a", "b", "x", "y", "z", "here", ".git/config", ".git"]),
    min_size=1,
    max_size=4,
).map("/".join)
_numbers = st.one_of(st.integers(-2, 20), st.integers(0, 7), st.sampled_from([1 << 33, 1 << 63, 0.5, None]))


@st.composite
def _members(draw: st.DrawFn) -> bytes:
    odd = draw(st.integers(0, 20))
    if odd == 0:
        return draw(st.binary(max_size=1200))
    if odd == 1:
        return frame(
            draw(st.sampled_from([BEGIN, ITEMS, DATA, END, 9])), draw(_json), draw(st.binary(max_size=20))
        )
    name = "work/" + draw(_names)
    data = draw(st.binary(max_size=20))
    kind = draw(st.sampled_from([*"ffdddllllFFFc"]))
    mode = draw(st.integers(0, 0o7777))
    if kind == "l":
        return member(name, "l", link=draw(st.sampled_from(["", "", "/work/", "/"])) + draw(_texts))
    if kind != "F":
        return member(name, kind, data=b"" if kind == "d" else data, mode=mode)
    known = draw(st.booleans())
    told = [len(data), "k", 0, len(data)] if known else [draw(_numbers), "k", draw(_numbers), draw(_numbers)]
    start = 0 if known else draw(_numbers)
    return frame(ITEMS, [["F", name, mode, 0, *told]]) + frame(DATA, start, data)


@settings(max_examples=150, deadline=None, phases=_PHASES)
@given(members=st.lists(_members(), max_size=5, unique=True))
def test_archives(members: list[bytes]) -> None:
    """What arrives is where it was asked for; nothing is outside of it, no link leads to what is private,
    and nothing of what is private is sent on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name), "here")
        (folder / ".git").mkdir(parents=True)
        (folder / ".git" / "config").write_text("private")
        rules = LinkRules(
            paths=PathMap(here=folder, there=Path("/work")),
            made=[folder / "a", folder / "b"],
            inputs=[],
            home=folder.parent / "home",
        )

        def place(name: str) -> str:
            if name not in ("/work/a", "/work/b"):
                raise ArchiveError(name)
            return str(folder / name.rpartition("/")[2])

        known, stash = MachineLinks(folder), Stash()
        with contextlib.suppress(ArchiveError, OSError):
            read_archive(hostile(*members), place, judge=noting(rules, known), stash=stash)
        stash.discard(remove)
        assert [path.name for path in folder.parent.iterdir()] == ["here"]
        there = {path.name for path in folder.iterdir()}
        assert there <= {"a", "b", ".git", ".snakemake"}
        for made in ("a", "b"):
            path = folder / made
            if not os.path.lexists(path):
                continue
            assert not os.path.realpath(path).startswith(str(folder / ".git"))
            for beyond in dangling([folder / "a", folder / "b"], folder):
                assert os.path.realpath(beyond) == str(beyond)
            with contextlib.suppress(Ec2ExecutorError, FileNotFoundError, PermissionError):
                for sent in sendings([path], PathMap(here=folder, there=folder)):
                    assert sent.content.is_symlink() or folder in sent.content.parents


@given(text=st.text())
def test_what_a_terminal_is_shown(text: str) -> None:
    """Nothing in it commands the terminal, and what cannot is as it was."""
    shown = plain(text)
    assert not any(ord(each) < 32 and each not in "\t\n" for each in shown)
    assert not set(shown) & set("\x1b\x9b\x7f\u202e\u2066")
    if text.isprintable():
        assert shown == text
    shown.encode()
