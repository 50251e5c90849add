"""What is sent so that a path can be read on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.staging.paths import PathMap, Sending, sendings


def names(sent: list[Sending], home: Path) -> dict[str, str]:
    """Name on the machine → `link`, or whose content it gets."""
    return {
        str(each.name.relative_to(home)): "link" if each.content.is_symlink() else each.content.name
        for each in sent
    }


@pytest.fixture
def here(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "project"
    home.mkdir()
    (home / "reads.fq").write_text("x")
    (home.parent / "archive.fq").write_text("x")
    return home


def test_links_within_the_working_directory_stay_links(here: Path) -> None:
    """A chain of links in the working directory is sent as it is, down to the file at its end."""
    (here / "one").symlink_to("two")
    (here / "two").symlink_to(here / "reads.fq")
    sent = sendings([here / "one"], PathMap(here=here, there=here))
    assert names(sent, here) == {"one": "link", "two": "link", "reads.fq": "reads.fq"}


def test_links_out_of_it_are_followed(here: Path) -> None:
    """A link to elsewhere becomes what it leads to, also at the end of a chain."""
    (here / "one").symlink_to("two")
    (here / "two").symlink_to("../archive.fq")
    sent = sendings([here / "one"], PathMap(here=here, there=here))
    assert names(sent, here) == {"one": "link", "two": "archive.fq"}


def test_an_absolute_link_needs_the_same_path_there(here: Path) -> None:
    """Where the working directory has another path on the machine, absolute links are followed."""
    (here / "absolute").symlink_to(here / "reads.fq")
    (here / "relative").symlink_to("reads.fq")
    there = Path("/home/user/work")
    sent = sendings([here / "absolute", here / "relative"], PathMap(here=here, there=there))
    assert names(sent, there) == {"absolute": "reads.fq", "relative": "link", "reads.fq": "reads.fq"}


def test_what_a_job_changes_is_sent_as_content(here: Path) -> None:
    """Of a link that is an `update` output, the content is sent: it comes back under that name."""
    (here / "table").symlink_to("reads.fq")
    sent = sendings([here / "table"], PathMap(here=here, there=here), followed=[here / "table"])
    assert names(sent, here) == {"table": "reads.fq"}


def test_dots_behind_a_linked_directory_lead_elsewhere(here: Path) -> None:
    """`linked/../x` is beside what `linked` leads to, not beside `linked`: such a link is followed."""
    (here.parent / "store").mkdir()
    (here / "linked").symlink_to("../store")
    (here.parent / "reads.fq").write_text("another")
    (here / "one").symlink_to("linked/../reads.fq")
    sent = sendings([here / "one"], PathMap(here=here, there=here))
    assert [each.content for each in sent] == [here.parent / "reads.fq"]
