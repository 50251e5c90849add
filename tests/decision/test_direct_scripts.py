"""Scripts in R, bash and Julia are written as Snakemake writes them, to the byte."""

from __future__ import annotations

import os
import re

from tests.decision.conftest import Ran, Runs

_SNAKEFILE = r"""
config.update({"a": 1, "deep": {"x": [1, 2, "three"], "none": None}})
config["text"] = "it's \"q\" $HOME `id` \\d ümläut"
rule all:
    input: "r.txt", "julia.txt", "bash_one.txt", "py.txt", "used.txt"
rule r:
    input: "in/a.txt", named="in/b.txt", more=["in/a.txt", "in/b.txt"]
    output: "r.txt", directory("folder/r")
    log: err="logs/r.log"
    params: "first", yes=True, n=3, f=0.1, none=None, many=["x y", 2], table={"k": "v"}, odd=config["text"],
        place=lambda wildcards, resources: resources.tmpdir + "/sub"
    threads: 2
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    script: "scripts/x.R"
rule julia:
    input: "in/a.txt"
    output: "julia.txt"
    params: yes=False, n=3, f=1.5, many=[1, 2], odd="q\"uo'te"
    benchmark: "bench/julia.tsv"
    script: "scripts/x.jl"
rule bash:
    input: "in/a.txt", named="in/b.txt"
    output: "bash_{w}.txt", named="more_{w}.txt"
    log: "logs/deep/{w}.log"
    params: odd=config["text"], many=["x y", "z"], empty=""
    threads: 2
    script: "scripts/{wildcards.w}.sh"
rule used:
    output: "used.txt"
    resources: shell_exec="sh"
    script: "scripts/used.sh"
rule py:
    output: "py.txt"
    script: "scripts/x.py"
"""
_KEEP = """#!/bin/sh
for script; do :; done
mkdir -p kept folder/r
cp "$script" "kept/$(basename "$script" | sed 's/^tmp[^.]*[.]//')"
echo "$0 $#: $*" | sed 's,scripts/tmp[^.]*,scripts/tmp,' > "kept/call-$(basename "$0")"
sleep 0.1
touch "$(basename "$0" | sed 's/Rscript/r/').txt"
"""
_BASH = """#!/bin/bash -x
echo "${snakemake_params[odd]} ${snakemake_params[many]} ${snakemake[threads]}" > "${snakemake_output[0]}"
echo "${snakemake_input[named]} ${snakemake_wildcards[w]}" > "${snakemake_output[named]}"
echo "${snakemake_resources[tmpdir]} $TMPDIR $OMP_NUM_THREADS ${snakemake[scriptdir]}" > "${snakemake_log[0]}"
declare -p snakemake_resources | tr ' ' '\\n' | sort >> "${snakemake_log[0]}"
basename "$0" | cut -d. -f2- >> "${snakemake_log[0]}"; stat -c %a "$0" >> "${snakemake_log[0]}"
"""


def test_scripts_are_the_same_locally_and_directly(runs: Runs) -> None:
    """What R and Julia are given is kept by programs of their names; bash runs. Python takes Snakemake."""
    files = {
        "Snakefile": _SNAKEFILE,
        "in/a.txt": "a\n",
        "in/b.txt": "b\n",
        "scripts/x.R": "#!/usr/bin/env Rscript\ncat('ümläut')\n",
        "scripts/x.jl": "println(1)\n",
        "scripts/one.sh": _BASH,
        "scripts/used.sh": 'echo "$BASH_VERSION" | cut -c1 > "${snakemake_output[0]}"\n',
        "scripts/x.py": "open(snakemake.output[0], 'w')\n",
        **{f"bin/{name}": _KEEP for name in ("Rscript", "julia")},
    }
    path = {"PATH": f"bin:{os.environ['PATH']}"}
    for place in ("local", "decided"):
        for name in ("Rscript", "julia"):
            program = runs.folder / place / "w" / "bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.touch(mode=0o755)

    local = runs.locally(files, env=path)
    decided = runs.decided(files, env={**path, "DIRECT": "1"})

    assert local.status == 0, local.output
    assert decided.status == 0, decided.output
    assert b"setClass" in local.tree["kept/x.R"][2]
    assert _of_one_place(decided, runs) == _of_one_place(local, runs)
    assert set(re.findall(r"^DIRECT: rule (\w+)", decided.output, re.MULTILINE)) == {
        "r",
        "julia",
        "bash",
        "used",
    }
    assert re.findall(r"^RUNNER: rule (\w+): (.*)$", decided.output, re.MULTILINE) == [
        ("py", "it has a script in another language than R, bash or Julia")
    ]


def _of_one_place(ran: Ran, runs: Runs) -> dict[str, tuple[str, int, bytes]]:
    """The tree, but for the folder that it is in, and for what a benchmark has measured."""
    folders = rb"|".join(re.escape(str(runs.folder / place / "w").encode()) for place in ("local", "decided"))
    return {
        name: (kind, mode, b"" if name.startswith("bench/") else re.sub(folders, b"HERE", content))
        for name, (kind, mode, content) in ran.tree.items()
    }
