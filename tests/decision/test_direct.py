"""A shell rule's command, run as it was decided, leaves what it leaves locally."""

from __future__ import annotations

import re

import pytest

from tests.decision.conftest import Ran, Runs

_MAIN = r"""
import os
NAME = "main-name"
config.setdefault("who", "main")
LONG = "x" * 70000
NAMES = '''
plain strict pipefail status wildcard_a globals named lists quoted odd braces threads omp resources
tmpdir tmpdir_env tmpdir_param tmpdir_const paramfn paraminput paramres log nolog touched updated
ensured protected deep/er/one multi1 multi2 sh zero long many stdin umask cwd comment multiline
late_a late_b mod_m used  temp_reader signals arithmetic dollar0 unicode bench benchjson benchrepeat
'''.split()
ODD = "it's \"q\" $HOME `id` \\d"

rule all:
    input: [f"out/{name}.txt" for name in NAMES], "out/dir"

rule plain:
    output: "out/plain.txt"
    shell: "echo plain > {output}"
rule strict:
    output: "out/strict.txt"
    shell: "set +o | grep -E 'errexit|nounset|pipefail' > {output}; echo $- >> {output}"
rule pipefail:
    output: "out/pipefail.txt"
    shell: "(set +o pipefail; yes | head -n 2) > {output}"
rule status:
    output: "out/status.txt"
    shell: "false || echo $? > {output}"
rule wildcard:
    output: "out/wildcard_{w}.txt"
    shell: "echo {wildcards.w} {rule} > {output}"
rule globals:
    output: "out/globals.txt"
    shell: "echo {NAME} {config[who]} > {output}"
rule named:
    input: a="data/a.txt", b=["data/b.txt", "data/c.txt"]
    output: "out/named.txt"
    shell: "cat {input.a} {input.b} {input.b[1]} > {output}"
rule lists:
    input: "data/a.txt", "data/b.txt"
    output: "out/lists.txt"
    params: ["x y", "z"], more={"k": "v"}
    shell: "echo {input[1]} {params[0]} {params.more[k]} > {output}"
rule quoted:
    output: "out/quoted.txt"
    params: odd=ODD, empty=""
    shell: "printf '%s\n' {params.odd:q} {params.empty:q} > {output:q}"
rule odd:
    output: "out/odd.txt"
    params: odd=r"\d+\t"
    shell: r"printf '%s\n' '{params.odd}' '\d' > {output}"
rule braces:
    output: "out/braces.txt"
    shell: "echo a b | awk '{{print $2}}' > {output}"
rule threads:
    output: "out/threads.txt"
    threads: 2
    shell: "echo {threads} > {output}"
rule omp:
    output: "out/omp.txt"
    threads: 2
    shell: "env | grep -E '_NUM_THREADS|MAXIMUM_THREADS' | sort > {output}"
rule resources:
    output: "out/resources.txt"
    resources: mem_mb=123, mine="text", n=lambda wildcards, attempt: attempt * 2
    shell: "echo {resources.mem_mb} {resources.mine} {resources.n} > {output}"
rule tmpdir:
    output: "out/tmpdir.txt"
    shell: "echo {resources.tmpdir} > {output}; test -d {resources.tmpdir}"
rule tmpdir_env:
    output: "out/tmpdir_env.txt"
    shell: "env | grep -E '^(TMPDIR|TMP|TEMP|TEMPDIR)=' | sort > {output}"
rule tmpdir_param:
    output: "out/tmpdir_param.txt"
    params: place=lambda wildcards, resources: resources.tmpdir + "/sub"
    shell: "echo {params.place} > {output}"
rule tmpdir_const:
    output: "out/tmpdir_const.txt"
    resources: tmpdir="/tmp/one-of-its-own"
    shell: "echo {resources.tmpdir} $TMPDIR > {output}; test -d $TMPDIR; rmdir $TMPDIR"
rule paramfn:
    output: "out/paramfn.txt"
    params: n=lambda wildcards, output: output[0].upper()
    shell: "echo {params.n} > {output}"
rule paraminput:
    input: "out/plain.txt"
    output: "out/paraminput.txt"
    params: text=lambda wildcards, input: open(input[0]).read().strip()
    shell: "echo {params.text} > {output}"
rule paramres:
    output: "out/paramres.txt"
    resources: mem_mb=50
    params: half=lambda wildcards, resources: resources.mem_mb // 2, t=lambda wildcards, threads: threads
    shell: "echo {params.half} {params.t} > {output}"
rule log:
    output: "out/log.txt"
    log: "logs/deep/log.log"
    shell: "echo said > {log}; cp {log} {output}"
rule nolog:
    output: "out/nolog.txt"
    log: "logs/empty.log"
    shell: "echo x > {output}"
rule touched:
    output: touch("out/touched.txt")
    shell: "true"
rule updated:
    output: update("out/updated.txt")
    shell: "echo after >> {output}"
rule ensured:
    output: ensure("out/ensured.txt", non_empty=True)
    shell: "echo x > {output}"
rule protected:
    output: protected("out/protected.txt")
    shell: "echo x > {output}"
rule deep:
    output: "out/deep/er/one.txt"
    shell: "echo x > {output}"
rule multi:
    output: "out/multi1.txt", two="out/multi2.txt"
    shell: "echo 1 > {output[0]}; echo 2 > {output.two}"
rule sh:
    output: "out/sh.txt"
    resources: shell_exec="sh"
    shell: "echo $0 > {output}; (set -o | grep pipefail || echo none) >> {output}"
rule zero:
    output: "out/zero.txt"
    shell: ": > {output}"
rule long:
    output: "out/long.txt"
    params: long=LONG
    shell: "echo {params.long} | wc -c > {output}; basename $0 >> {output}"
rule many:
    input: [f"data/{c}.txt" for c in "abc"] * 50
    output: "out/many.txt"
    shell: "cat {input} | wc -l > {output}"
rule stdin:
    output: "out/stdin.txt"
    shell: "cat > {output}"
rule umask:
    output: "out/umask.txt"
    shell: "umask > {output}"
rule cwd:
    output: "out/cwd.txt"
    shell: "basename $(pwd) > {output}"
rule comment:
    output: "out/comment.txt"
    shell: "echo x > {output} # and a comment"
rule multiline:
    output: "out/multiline.txt"
    shell:
        '''
        for i in 1 2; do
            echo $i
        done > {output}
        '''
for x in ["a", "b"]:
    rule:
        name: f"late_{x}"
        output: f"out/late_{x}.txt"
        shell: f"echo {x} > " + "{output}"
module other:
    snakefile: "other.smk"
    config: {"who": "module"}
use rule * from other as mod_*
use rule plain as used with:
    output: "out/used.txt"
rule temp_maker:
    output: temp("out/temp.txt")
    shell: "echo temp > {output}"
rule temp_reader:
    input: "out/temp.txt"
    output: "out/temp_reader.txt"
    shell: "cp {input} {output}"
rule signals:
    output: "out/signals.txt"
    shell: "grep -E 'Sig(Ign|Blk)' /proc/self/status > {output}"
rule arithmetic:
    output: "out/arithmetic.txt"
    shell: "i=1; ((i++)) || true; echo $i > {output}"
rule dollar0:
    output: "out/dollar0.txt"
    shell: "echo $0 > {output}"
rule unicode:
    output: "out/unicode.txt"
    shell: "echo 'ümläut 日本' > {output}"
rule bench:
    output: "out/bench.txt"
    benchmark: "bench/deep/plain.tsv"
    shell: "sleep 0.1; echo {bench_iteration} > {output}"
rule benchjson:
    output: "out/benchjson.txt"
    benchmark: "bench/one.jsonl"
    shell: "sleep 0.1; echo {bench_iteration} > {output}"
rule benchrepeat:
    output: "out/benchrepeat.txt"
    benchmark: repeat("bench/repeat.tsv", 2)
    shell: "sleep 0.1; echo {bench_iteration} >> {output}"
rule dir:
    output: directory("out/dir")
    shell: "mkdir -p {output}/sub; echo x > {output}/sub/x"
"""
_OTHER = """
NAME = "module-name"
rule m:
    output: "out/mod_m.txt"
    shell: "echo {config[who]} {NAME} > {output}"
"""
_FILES = {
    "Snakefile": _MAIN,
    "other.smk": _OTHER,
    "out/updated.txt": "before\n",
    **{f"data/{c}.txt": f"{c}\n" for c in "abc"},
}


@pytest.mark.parametrize("direct", ["1", pytest.param("", marks=pytest.mark.slow)])
def test_forty_rules_are_the_same_locally_directly_and_with_snakemake(runs: Runs, direct: str) -> None:
    """Files, modes and contents of rules with odd features, and that there is nothing left to do."""
    local = runs.locally(_FILES)
    assert local.status == 0, local.output
    again = runs.locally({}, "-n")
    assert "Nothing to be done" in again.output, again.output

    decided = runs.decided(_FILES, "--keep-going", env={"DIRECT": direct})

    assert decided.status == 0, decided.output
    assert without_measures(decided) == without_measures(local)
    assert len(re.findall("^DIRECT: ", decided.output, re.MULTILINE)) == (50 if direct else 0)
    on_the_runner = re.findall(r"^RUNNER: rule (\w+): ", decided.output, re.MULTILINE)
    assert on_the_runner == (["benchrepeat"] if direct else [])
    assert "Nothing to be done" in runs.decided({}, "-n").output


def without_measures(ran: Ran) -> dict[str, tuple[str, int, bytes]]:
    """The tree, and of benchmarks only which measures there are."""
    return {
        name: (
            kind,
            mode,
            re.sub(rb"\b[\d.:]+|\bNA\b", b"N", content) if name.startswith("bench/") else content,
        )
        for name, (kind, mode, content) in ran.tree.items()
    }


_FAILING = r"""
rule status:
    output: "status.txt"
    shell: "echo x > {output}; exit 3"
rule signal:
    output: "signal.txt"
    shell: "kill -KILL $$"
rule pipe:
    output: "pipe.txt"
    shell: "yes | head -n 1 > {output}"
rule unset:
    output: "unset.txt"
    shell: "echo $NOT_SET > {output}"
rule missing:
    output: "missing.txt"
    shell: "true"
rule folder:
    output: directory("folder.txt")
    shell: "echo x > {output}"
rule ensured:
    output: ensure("ensured.txt", non_empty=True)
    shell: ": > {output}"
rule retried:
    output: "retried.txt"
    retries: 2
    resources: mem_mb=lambda wildcards, attempt: attempt * 100
    params: mem=lambda wildcards, resources: resources.mem_mb
    shell: "echo {resources.mem_mb} {params.mem} >> tries; test {resources.mem_mb} = 300 && echo x > {output}"
"""


def test_failures_are_the_same_locally_directly_and_with_snakemake(runs: Runs) -> None:
    """A failing command, a missing or wrong output, a retry with more memory: what is left is the same."""
    targets = [f"{name}.txt" for name in
               ("status", "signal", "pipe", "unset", "missing", "folder", "ensured", "retried")]  # fmt: skip
    options = ("--keep-going", "--latency-wait", "1", *targets)
    local = runs.locally({"Snakefile": _FAILING}, *options)

    direct = runs.decided({"Snakefile": _FAILING}, *options, env={"DIRECT": "1"})

    assert local.status != 0
    assert direct.status != 0
    assert direct.tree == local.tree, direct.output
    assert local.tree["tries"][2].splitlines()[0] == b"100 100"


_ON_THE_RUNNER = [
    ('run: open(output[0], "w")', "run"),
    ('script: "x.py"', "script"),
    ('shadow: "minimal"\n    shell: "echo > {output}"', "a shadow folder"),
    ('benchmark: repeat("b.tsv", 2)\n    shell: "echo > {output}"', "its benchmark is repeated"),
    ('params: n=lambda w, resources: len(str(resources.tmpdir))\n    shell: "echo {params.n} > {output}"',
     "depends on the machine's folder for temporary files"),
    ('resources: tmpdir=lambda w: "/tmp"\n    shell: "echo {resources.tmpdir} > {output}"',
     "its tmpdir is only known on the machine"),
    ('params: script=workflow.source_path("x.py")\n    shell: "cp {params.script} {output}"',
     "its command names a file in Snakemake's cache"),
]  # fmt: skip


def test_what_the_machine_has_a_say_in_takes_snakemake(runs: Runs) -> None:
    """Each condition sends a job to the runner, and says which."""
    rules = [f'rule r{i}:\n    output: "{i}.txt"\n    {rule}\n' for i, (rule, _) in enumerate(_ON_THE_RUNNER)]
    files = {"Snakefile": "".join(rules), "x.py": "open(snakemake.output[0], 'w')\n"}
    targets = [f"{i}.txt" for i in range(len(rules))]

    ran: Ran = runs.decided(files, *targets, env={"DIRECT": "1"})

    assert ran.status == 0, ran.output
    told = dict(re.findall(r"^RUNNER: rule (r\d+): (.*)$", ran.output, re.MULTILINE))
    for i, (_, why) in enumerate(_ON_THE_RUNNER):
        assert why in told[f"r{i}"], told
