"""What is kept and told of Snakemake's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.outcomes import Outcome, Outcomes, load
from tests.conformance.table import table

VERSIONS = {"snakemake": "9.27.1", "ec2 executor": "0.1.0", "Python": "3.11.7"}


def outcomes(*, auto: str, never: str) -> Outcomes:
    return Outcomes(
        versions=VERSIONS,
        local={
            "test_a": Outcome(how="passed", submits=True, kinds=("cluster-generic",)),
            "test_b": Outcome(how="passed"),
        },
        ec2={"test_a": Outcome(how=auto, direct=2, runner=1)},
        never={"test_a": Outcome(how=never, runner=3)},
    )


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """A file gives back what was saved in it, and nothing to other versions of Snakemake."""
    kept = outcomes(auto="passed", never="failed")
    kept.save(tmp_path / "kept.json")

    assert load(tmp_path / "kept.json", VERSIONS) == kept
    assert load(tmp_path / "kept.json", {**VERSIONS, "snakemake": "9.28.0"}).local == {}


@pytest.mark.parametrize(
    ("auto", "never", "differs"),
    [
        ("passed", "passed", False),
        ("failed", "failed", False),
        ("passed", "failed", True),
        ("failed", "passed", True),
    ],
)
def test_a_test_differs_if_it_passes_in_one_way_only(auto: str, never: str, differs: bool) -> None:
    """A test that passes with its own command and not with Snakemake, or the other way round, is told."""
    assert outcomes(auto=auto, never=never).differing == (["test_a"] if differs else [])


def test_the_page_counts_kinds_and_ways() -> None:
    """The page says how many of the tests for a cluster count and pass, and how their jobs ran."""
    page = table(outcomes(auto="passed", never="passed"), {})

    assert "| the executor `cluster-generic`: groups, resources, scopes | 1 | 1 |" in page
    assert "| ran their own command, without Snakemake on the machine | 2 |" in page
    assert "| of those, run once more with `--ec2-direct never` | 1 |" in page
