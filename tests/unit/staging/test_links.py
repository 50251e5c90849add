"""What links among outputs lead to comes home, unless it would be code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snakemake_executor_ec2.staging.links import dangling


def test_what_links_lead_to(tmp_path: Path) -> None:
    """Only what is not here, in the working directory; a chain of links is followed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "here.txt").write_text("")
    links = {"out/a": "../work/real.txt", "out/b": "../here.txt", "out/c": "/elsewhere/x", "out/d": "a"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = dangling([tmp_path / name for name in links], tmp_path)
    assert found == (tmp_path / "work/real.txt",)


@pytest.mark.parametrize(
    "target",
    [
        ".git/hooks/pre-commit",
        "profiles/default/config.yaml",
        "workflow/profiles/default/config.yaml",
        "Snakefile",
        "out/../sitecustomize.py",
        "Makefile",
        "out/.hidden",
    ],
)
def test_no_link_brings_code(target: str, tmp_path: Path) -> None:
    """A machine that has gone bad cannot place what Snakemake, git or Python would run."""
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / "result"
    link.symlink_to(os.path.relpath(tmp_path / target, link.parent))
    assert dangling([link], tmp_path) == ()
