"""Values of classes that a Snakefile defines."""

from __future__ import annotations

from tests.decision.conftest import Runs

READS = {f"reads/{name}.txt": f"{name}\n" for name in "abc"}
COUNT = "open(snakemake.output[0], 'w').write(repr(dict(snakemake.params)))\n"
OWN_CLASS = """
import os
class Study:
    def __init__(self, there): self.there = there
    def __repr__(self): return f"Study({self.there})"
STUDY = Study(os.path.exists("reads/a.txt"))
rule all:
    input: "run.txt", "shell.txt", "script.txt"
rule run:
    output: "run.txt"
    run:
        open(output[0], "w").write(repr(STUDY))
rule told:
    output: "shell.txt"
    shell: "echo {STUDY!r:q} > {output}"
rule script:
    output: "script.txt"
    params: study=STUDY.there
    script: "scripts/count.py"
"""


def test_values_of_classes_in_the_snakefile_are_held_to(runs: Runs) -> None:
    """A class that the Snakefile defines has no module: its values are compared like others."""
    files = {"Snakefile": OWN_CLASS, "scripts/count.py": COUNT, **READS}
    local = runs.locally(files)
    assert local.status == 0, local.output

    decided = runs.decided(files)

    assert decided.status == 0, decided.output
    for name in ("run.txt", "shell.txt", "script.txt"):
        assert decided.tree[name] == local.tree[name]
    differs = runs.decided({}, "run.txt", "--forcerun", "run", hide=["reads"])
    assert differs.status != 0, differs.output
    assert "STUDY" in differs.output, differs.output
