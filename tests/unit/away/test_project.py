"""What goes to the machine of a whole run, and what may come back from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.persistence.file import FilePersistence

from snakemake_executor_ec2.away.project import Started, command, may_come_home, note_of, started_of
from snakemake_executor_ec2.away.wheel import Wheel

WORKDIR = Path("/home/me/work")
STARTED = Started(
    hostname="ip-10-0-0-1",
    arguments=("--jobs", "4"),
    also=("logs/a.log",),
    patterns=(r"results/(?P<sample>.+)", r"(?P<any>.+)\.txt", "/scratch/done"),
    sent=("/home/me/work/results/README", "/home/me/work/notes.txt"),
    keep_s=3600,
)


@pytest.mark.parametrize("name", ["a", "results/ä b.txt", "/abs/olute", "deep/" * 60 + "file", "x" * 400])
def test_notes_are_where_snakemake_keeps_them(name: str) -> None:
    """Also those of names that are too long for one file."""
    fake = SimpleNamespace(_fetch_max_len=lambda _: 255)
    theirs = FilePersistence._record_path(fake, ".snakemake/metadata", name)
    assert note_of(name) == Path(theirs)


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("results/a.csv", True),
        ("logs/a.log", True),
        ("/scratch/done", True),
        ("made.txt", True),
        ("Snakefile", False),
        ("results/README", False),
        ("notes.txt", False),
        ("results/../Snakefile", False),
        ("results/.git/config", False),
        (".bashrc.txt", False),
        ("/home/me/evil.txt", False),
    ],
)
def test_only_results_of_rules_come_home(name: str, may: bool) -> None:
    """Whatever a machine says is finished: nothing that was sent is replaced, nothing hidden is written, and
    outside of the folder only what a rule names."""
    assert may_come_home(name, STARTED, WORKDIR) is may


def test_a_start_is_remembered_whole() -> None:
    """The journal's JSON gives the same again."""
    assert started_of(STARTED.as_json()) == STARTED


def test_the_shell_outlives_what_ends_snakemake() -> None:
    """Arguments are quoted, and the machine's lease is shortened whatever becomes of Snakemake."""
    text = command(("--config", "a=b c"), "shorten")
    assert text == "trap : TERM; snakemake --config 'a=b c'; status=$?; shorten > /dev/null; exit $status"


def test_another_wheel_is_kept_elsewhere() -> None:
    """uv installs it then, although its version is the same."""
    one, other = (Wheel(name="p-1-py3-none-any.whl", content=data) for data in (b"1", b"2"))
    assert one.path != other.path
