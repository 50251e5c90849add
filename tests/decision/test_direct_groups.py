"""Groups whose rules are plain shell commands leave what they leave locally."""

from __future__ import annotations

import re

from tests.decision.conftest import Runs
from tests.decision.test_direct import without_measures

_SNAKEFILE = r'''
rule all:
    input: "out/last.txt", "out/joined.txt", "out/late.txt", "out/checked.txt"

rule first:
    output: temp("out/first.txt"), directory("out/dir"), touch("out/touched.txt")
    group: "chain"
    shell: "echo first > {output[0]}; mkdir {output[1]}; echo x > {output[1]}/x"
rule second:
    input: "out/first.txt", "out/dir"
    output: temp("out/second.txt")
    log: "logs/deep/second.log", "logs/empty.log"
    params: upper=lambda wildcards, output: output[0].upper()
    threads: 2
    group: "chain"
    shell:
        """
        set +o > {log[0]}; echo {params.upper} {threads} $OMP_NUM_THREADS > {output}
        ls -a {input[1]} >> {output}
        """
rule third:
    input: "out/second.txt", "out/touched.txt"
    output: "out/third.txt"
    group: "chain"
    shell: "cat {input} > {output}; echo {resources.tmpdir} $TMPDIR >> {output}"
rule last:
    input: "out/second.txt", "out/third.txt"
    output: "out/last.txt"
    benchmark: "bench/last.tsv"
    group: "chain"
    shell: "sleep 0.1; cat {input} > {output}"

rule part:
    output: "out/part_{p}.txt"
    params: twice=lambda wildcards: wildcards.p * 2
    group: "wide"
    shell: "echo {params.twice} > {output}"
rule join:
    input: [f"out/part_{p}.txt" for p in "abc"]
    output: "out/joined.txt"
    group: "wide"
    shell: "cat {input} > {output}"

rule made:
    output: "out/made.txt"
    group: "late"
    shell: "seq 3 > {output}"
rule late:
    input: "out/made.txt"
    output: "out/late.txt"
    params: n=lambda wildcards, input: len(open(input[0]).readlines())
    group: "late"
    shell: "echo {params.n} > {output}"

rule ensured:
    output: ensure("out/ensured.txt", non_empty=True)
    group: "checked"
    shell: "echo > {output}"
rule checked:
    input: "out/ensured.txt"
    output: "out/checked.txt"
    group: "checked"
    shell: "cp {input} {output}"
'''


def test_groups_are_the_same_locally_and_directly(runs: Runs) -> None:
    """A chain, a wide one; and those that need Snakemake between their jobs take it."""
    # A leaving of an earlier run, which the group makes anew: nobody may look at it before.
    files = {"Snakefile": _SNAKEFILE, "out/made.txt": "stale\n"}
    local = runs.locally(files, "--forceall")
    assert local.status == 0, local.output

    decided = runs.decided(files, "--forceall", env={"DIRECT": "1"})

    assert decided.status == 0, decided.output
    assert decided.tree["out/late.txt"][2] == b"3\n"
    assert without_measures(decided) == without_measures(local)
    direct = set(re.findall(r"^DIRECT: (?:group|rule) (\w+)", decided.output, re.MULTILINE))
    assert direct == {"chain", "wide"}, decided.output
    why = dict(re.findall(r"^RUNNER: group (\w+) .*?\): of (.*)$", decided.output, re.MULTILINE))
    assert why == {
        "late": "rule late: its params or resources look at files that the group makes",
        "checked": "rule ensured: Snakemake looks at its outputs between the jobs of the group",
    }
