"""The profiles of a workflow, on the machine that runs the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.away_profiles import profiles

OWN = ("--ec2-region", "--ec2-profile", "--ec2-detach")
PROFILE = """\
# of mine
jobs: 4
ec2-region: eu-central-1
ec2-profile: lab
ec2-detach: true
ec2-tags: project=thesis
set-resources:
  part: {mem_mb: 100}
"""
KEPT = {"jobs": 4, "ec2-tags": "project=thesis", "set-resources": {"part": {"mem_mb": 100}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "work"
    found.mkdir()
    monkeypatch.chdir(found)
    return found


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["profiles/default/config.yaml", "workflow/profiles/x/profile.v9+.yaml"])
def test_what_belongs_to_this_computer_is_left_out(folder: Path, name: str) -> None:
    """Also what is switched on alone; everything else is as it was."""
    path = put(folder / name, PROFILE)
    found = profiles(Path("workflow/Snakefile"), [], OWN)
    assert found.files == (path,)
    assert yaml.safe_load(found.written[path]) == KEPT


def test_a_profile_without_it_is_sent_as_it_is(folder: Path) -> None:
    """And so are files beside it, whatever is in them."""
    put(folder / "profiles/default/config.yaml", "jobs: 4\n")
    put(folder / "profiles/default/values.yaml", "ec2-region: no profile\n")
    put(folder / "profiles/broken/config.yaml", "[")
    found = profiles(Path("Snakefile"), [], OWN)
    assert len(found.files) == 3
    assert found.written == {}


def test_expressions_of_a_profile_are_evaluated_here(folder: Path) -> None:
    """As Snakemake does it: what they hide is found as well."""
    text = "__use_yte__: true\n?if 1 + 1 == 2:\n  ec2-profile: lab\njobs: ?2 + 2\n"
    path = put(folder / "profiles/default/config.yaml", text)
    assert yaml.safe_load(profiles(Path("Snakefile"), [], OWN).written[path]) == {"jobs": 4}


@pytest.mark.parametrize("given", [["--workflow-profile", "mine"], ["--workflow-profile=mine"]])
def test_a_profile_that_is_named_goes_there_too(folder: Path, given: list[str]) -> None:
    """Without it, the machine's Snakemake would go on as if there was none."""
    path = put(folder / "mine/config.yaml", PROFILE)
    found = profiles(Path("Snakefile"), given, OWN)
    assert path in found.files
    assert path in found.written


def test_a_profile_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    """For the same reason."""
    put(tmp_path / "other/config.yaml", PROFILE)
    with pytest.raises(ConfigurationError, match="copy it into profiles/"):
        profiles(Path("Snakefile"), ["--workflow-profile", "../other"], OWN)
    assert profiles(Path("Snakefile"), ["--workflow-profile", "none"], OWN).files == ()


def test_the_profiles_beside_a_snakefile_are_found(folder: Path) -> None:
    """Wherever in the folder it is."""
    path = put(folder / "sub/profiles/default/config.yaml", PROFILE)
    assert profiles(Path("sub/Snakefile"), [], OWN).files == (path,)
