"""Nothing here is read through a link that a machine made."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.errors import StagingError
from snakemake_executor_ec2.staging.machine_links import MachineLinks
from snakemake_executor_ec2.staging.paths import PathMap, sendings
from snakemake_executor_ec2.staging.private import private_in
from tests.unit.staging.test_paths import names


@pytest.fixture
def here(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "project"
    home.mkdir()
    (home.parent / "thesis.docx").write_text("private")
    (home.parent / "docs").mkdir()
    (home.parent / "docs" / "cv").write_text("private")
    return home


def _note(home: Path, link: str, text: str, declared: Path | None = None) -> Path:
    path = home / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(text)
    MachineLinks(home).note(path, text, declared)
    return path


def test_a_link_of_a_machines_is_sent_as_the_link_that_it_is(here: Path) -> None:
    """An output that leads to somebody's document, from this run or an earlier one, hands over nothing."""
    link = _note(here, "out", "../thesis.docx")
    assert names(sendings([link], PathMap(here=here, there=here)), here) == {"out": "link"}


def test_one_in_a_folder_as_well(here: Path) -> None:
    """Whether the folder is sent, or the link alone; users' own links beside it are followed as ever."""
    link = _note(here, "env/python", "/usr/bin/python3")
    path_map = PathMap(here=here, there=here)
    (whole,) = sendings([here / "env"], path_map)
    assert whole.content == here / "env"
    (here / "env" / "mine").symlink_to("../../thesis.docx")
    assert names(sendings([here / "env"], path_map), here) == {
        "env/mine": "thesis.docx", "env/python": "link",
    }  # fmt: skip
    assert names(sendings([link], path_map), here) == {"env/python": "link"}


def test_what_its_job_declared_is_sent_with_it(here: Path) -> None:
    """`ln -s {input} {output}`: the next job gets the link, and what it leads to, where that is."""
    data = here.parent / "docs" / "cv"
    link = _note(here, "out", str(data), data)
    sent = sendings([link], PathMap(here=here, there=here))
    assert {each.name: each.content for each in sent} == {link: link, data: data}


def test_what_lies_behind_such_a_link_is_not_read(here: Path) -> None:
    """Neither by a path that leads through it, nor by a user's link that does."""
    _note(here, "out/there", "../../docs")
    (here / "mine").symlink_to("out/there/cv")
    for path in ("out/there/cv", "mine"):
        with pytest.raises(StagingError, match="a link that a machine made"):
            sendings([here / path], PathMap(here=here, there=here))


def test_links_in_a_circle_have_an_end(here: Path) -> None:
    """Also if each time they lead one folder deeper."""
    link = _note(here, "out/x", "x/y", here / "out" / "x" / "y")
    with pytest.raises(StagingError, match="in a circle"):
        sendings([link], PathMap(here=here, there=here))


def test_a_folder_that_was_moved_knows_its_links(here: Path) -> None:
    """And a link that the user has put in the place of one is the user's."""
    _note(here, "out", "../thesis.docx")
    moved = here.rename(here.parent / "elsewhere")
    path_map = PathMap(here=moved, there=moved)
    assert names(sendings([moved / "out"], path_map), moved) == {"out": "link"}
    (moved / "out").unlink()
    (moved / "out").symlink_to("../docs/cv")
    assert names(sendings([moved / "out"], path_map), moved) == {"out": "cv"}


@pytest.mark.parametrize(
    "path", [".ssh/id", ".aws", ".", "project/.snakemake/ec2/journal.sqlite", "x/.git/HEAD"]
)
def test_what_is_private_to_this_computer(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, our own notes and `.git` are sent to no machine, nor a folder that holds them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    assert private_in(tmp_path / path, tmp_path / "project")
    assert private_in(tmp_path / "project" / ".hidden" / "file", tmp_path / "project") is None


def test_a_private_file_is_not_sent_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to it does not hide what it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id").write_text("secret")
    here = tmp_path / "project"
    here.mkdir()
    (here / "data").symlink_to("../.ssh/id")
    with pytest.raises(StagingError, match="private to this computer"):
        sendings([here / "data"], PathMap(here=here, there=here))
