"""Sets among the params of scripts."""

from __future__ import annotations

from tests.decision.conftest import Runs

SNAKEFILE = """
rule script:
    output: "script.txt"
    params: some={"x", "z"}, frozen=frozenset({"a", "b"}), inner={"k": [{1, 2}, ({"y"},)]}
    script: "scripts/told.py"
"""
TOLD = """
params = snakemake.params
told = [type(params.some), type(params.frozen), sorted(params.some), sorted(params.frozen), params.inner]
open(snakemake.output[0], "w").write(repr(told))
"""


def test_scripts_get_sets_as_plain_ones(runs: Runs) -> None:
    """A script's Python unpickles sets, however deep they are, as it does locally."""
    files = {"Snakefile": SNAKEFILE, "scripts/told.py": TOLD}
    local = runs.locally(files)
    assert local.status == 0, local.output

    decided = runs.decided(files)

    assert decided.status == 0, decided.output
    assert decided.tree["script.txt"] == local.tree["script.txt"]
