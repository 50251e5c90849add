"""The machine computes what the controller decided, or says why not; never something else."""

from __future__ import annotations

import json

import pytest

from tests.decision.conftest import Runs

READS = {f"reads/{name}.txt": f"{name}\n" for name in "abc"}

LISTING = """
import glob, os, pathlib
NAMES = sorted(glob_wildcards("reads/{n}.txt").n)
KNOWN = {
    "listdir": sorted(os.listdir("reads")) if os.path.isdir("reads") else [],
    "glob": sorted(glob.glob("reads/**", recursive=True)),
    "walk": [sorted(files) for _, _, files in os.walk("reads")],
    "pathlib": sorted(map(str, pathlib.Path(".").glob("reads/*.txt"))),
    "size": os.path.getsize("reads/a.txt") if os.path.exists("reads/a.txt") else -1,
}
rule all:
    input: "merged.txt", "params.txt", "function.txt", "resources.txt"
rule tidy:
    input: "reads/{n}.txt"
    output: "tidy/{n}.txt"
    shell: "cat {input} > {output}"
rule merge:
    input: expand("tidy/{n}.txt", n=NAMES)
    output: "merged.txt"
    params: n=len(NAMES)
    shell: "cat {input} > {output}; echo {params.n} >> {output}"
rule params:
    output: "params.txt"
    params:
        names=NAMES,
        known=KNOWN,
        late=lambda w: sorted(os.listdir("reads")),
        there=os.path.exists("reads/a.txt"),
    shell: "echo {params.names} {params.known:q} {params.late} {params.there} > {output}"
def found(wildcards):
    return [f"tidy/{name[0]}.txt" for name in sorted(os.listdir("reads"))]
rule function:
    input: found
    output: "function.txt"
    script: "scripts/count.py"
rule resources:
    output: "resources.txt"
    threads: lambda w: len(os.listdir("reads")) if os.path.isdir("reads") else 1
    resources: mem_mb=lambda w: 100 * len(os.listdir("reads")) if os.path.isdir("reads") else 7
    shell: "echo {threads} {resources.mem_mb} > {output}"
"""
COUNT = "open(snakemake.output[0], 'w').write(repr((list(snakemake.input), dict(snakemake.params))))\n"


def test_what_folders_show_is_decided_by_the_controller(runs: Runs) -> None:
    """Listing, existence, sizes and globs in params, input, threads and resources count as they were here."""
    files = {"Snakefile": LISTING, "scripts/count.py": COUNT, **READS}
    local = runs.locally(files)
    assert local.status == 0, local.output
    made = [name for name in local.tree if name.endswith(".txt") and not name.startswith("reads")]

    # What merges has the tidied files for input only: the reads are not sent there.
    first = runs.decided(files, "--until", "tidy")
    assert first.status == 0, first.output
    decided = runs.decided({}, hide=["reads"])

    assert decided.status == 0, decided.output
    assert {name: decided.tree[name] for name in made} == {name: local.tree[name] for name in made}


_BODIES = [
    ("f.write(repr(NAMES))", "NAMES"),
    ("f.write(helper())", "NAMES"),
    ("shell('echo {NAMES} > {output}')", "NAMES"),
    ("f.write(repr(lookup.FOUND))", "lookup.FOUND"),
    ("f.write(lookup.found())", "FOUND"),
    ("f.write(repr(Reader().names()))", "NAMES"),
    ("f.write(repr([n for n in (lambda: NAMES)()]))", "NAMES"),
]
_BODY = """
rule r{number}:
    output: "{number}.txt"
    run:
        with open(output[0], "w") as f:
            {code}
"""


def test_what_run_bodies_read_is_compared(runs: Runs) -> None:
    """A global of the Snakefile or its modules that is something else there is named, and nothing is run."""
    snakefile = """
import os
import lookup
NAMES = sorted(os.listdir("reads")) if os.path.isdir("reads") else []
def helper():
    return repr(NAMES)
class Reader:
    def names(self):
        return NAMES
"""
    rules = [_BODY.format(number=number, code=code) for number, (code, _) in enumerate(_BODIES)]
    targets = [f"{number}.txt" for number in range(len(rules))]
    module = "import os\nFOUND = os.path.isdir('reads')\ndef found():\n    return str(FOUND)\n"
    files = {"Snakefile": snakefile + "".join(rules), "lookup.py": module, **READS}

    decided = runs.decided(files, "--keep-going", *targets, hide=["reads"])

    assert decided.status != 0
    for number, (_, named) in enumerate(_BODIES):
        (why,) = [
            line
            for line in decided.output.split("DIFFERS: ")
            if line.startswith(f"rule r{number} was not run")
        ]
        assert f"{named}` is " in why
    assert not decided.tree.keys() & {*targets}
    assert runs.decided({}, targets[-1]).status == 0, "with the same view it runs"


def test_a_shell_command_that_would_be_another_one_is_not_run(runs: Runs) -> None:
    """Globals, modules' globals and f-strings in commands are compared as the text that would run."""
    snakefile = """
import os
MODE = "full" if os.path.isdir("reads") else "test"
config["who"] = "main"  # what Snakemake prints is formatted with it
rule one:
    output: "one.txt"
    shell: f"echo {MODE} > " + "{output}"
rule two:
    output: "two.txt"
    shell: "echo {MODE} > {output}"
module other:
    snakefile: "other.smk"
    config: {"who": MODE}
use rule * from other as other_*
"""
    other = 'rule three:\n    output: "three.txt"\n    shell: "echo {config[who]} > {output}"\n'
    files = {"Snakefile": snakefile, "other.smk": other, **READS}

    decided = runs.decided(files, "-k", "one.txt", "two.txt", "three.txt", hide=["reads"])

    assert decided.output.count("DIFFERS: rule") == 2, decided.output
    assert "full" in decided.output
    assert not {"one.txt", "two.txt"} & decided.tree.keys()
    # The module's config is set to what was decided.
    assert decided.tree["three.txt"][2] == b"full\n"


def test_variables_of_the_environment_do_not_change_a_result_in_silence(runs: Runs) -> None:
    """What a Snakefile made of a variable holds on a machine that lacks it, or the job is not run."""
    snakefile = """
import os
MODE = os.environ.get("RUN_MODE", "test")
rule params:
    output: "params.txt"
    params: mode=MODE
    shell: "echo {params.mode} > {output}"
rule body:
    output: "body.txt"
    run:
        open(output[0], "w").write(MODE)
"""
    env, without = {"RUN_MODE": "full"}, {"RUN_MODE": None}
    decided = runs.decided(
        {"Snakefile": snakefile}, "-k", "params.txt", "body.txt", env=env, machine_env=without
    )

    assert decided.tree["params.txt"][2] == b"full\n", decided.output
    assert "`MODE` is 'full' on your computer and 'test' on the machine" in decided.output
    assert "body.txt" not in decided.tree


def test_sets_have_the_order_that_they_had_here(runs: Runs) -> None:
    """Header and row that two rules write from one set fit each other, whatever seeds the machines have."""
    snakefile = """
S = set("the quick brown fox jumps over lazy dogs and more".split())
rule all:
    input: "header.txt", "row.txt", "shell.txt"
rule header:
    output: "header.txt"
    run:
        open(output[0], "w").write(" ".join(S) + "\\n")
rule row:
    output: "row.txt"
    params: s=S
    run:
        open(output[0], "w").write(" ".join(x for x in params.s) + "\\n")
rule shell:
    output: "shell.txt"
    shell: "echo {S} > {output}"
"""
    for seed in ("1", "2"):
        decided = runs.decided(
            {"Snakefile": snakefile}, "-F", env={"PYTHONHASHSEED": "3"}, machine_env={"PYTHONHASHSEED": seed}
        )
        assert decided.status == 0, decided.output
        assert len({decided.tree[f"{name}.txt"] for name in ("header", "row", "shell")}) == 1


def test_names_made_from_the_clock_are_those_that_were_decided(runs: Runs) -> None:
    """An output, log or benchmark named after the time is the one that Snakemake waits for."""
    snakefile = """
import time
RUN = str(time.time_ns())
rule all:
    input: f"out/{RUN}.txt"
rule one:
    output: f"out/{RUN}.txt"
    log: f"logs/{RUN}.log"
    benchmark: f"bench/{RUN}.tsv"
    params: run=RUN
    shell: "echo {params.run} > {output} 2> {log}"
"""
    decided = runs.decided({"Snakefile": snakefile})

    assert decided.status == 0, decided.output
    for folder in ("out", "logs", "bench"):
        assert len([name for name in decided.tree if name.startswith(f"{folder}/")]) == 1


def test_retries_are_the_controllers(runs: Runs) -> None:
    """A rule with `retries:` runs its command once for each attempt, with that attempt's memory."""
    snakefile = """
rule one:
    output: "one.txt"
    retries: 2
    resources: mem_mb=lambda wildcards, attempt: 3000 * attempt
    shell: "echo {resources.mem_mb} >> tries.txt; exit 1"
"""
    decided = runs.decided({"Snakefile": snakefile})

    assert decided.status != 0
    assert decided.tree["tries.txt"][2] == b"3000\n6000\n9000\n", decided.output


def test_resources_are_those_of_the_controller_and_no_more(runs: Runs) -> None:
    """Without --default-resources a rule has none on the machine either; with it, those that were given."""
    snakefile = """
rule one:
    output: "one.txt"
    params: m=lambda w, resources: resources.get("mem_mb", "none")
    shell: "echo {params.m} {resources} > {output}"
"""
    for options in ([], ["--default-resources", "mem_mb=123"]):
        local = runs.locally({"Snakefile": snakefile}, "-F", *options)
        decided = runs.decided({"Snakefile": snakefile}, "-F", *options)
        assert decided.status == 0, decided.output
        assert decided.tree["one.txt"][2].split()[0] == (b"123" if options else b"none")
        assert local.tree["one.txt"][2].split()[0] == decided.tree["one.txt"][2].split()[0]


def test_groups_are_held_to_the_decision_too(runs: Runs) -> None:
    """`run:` and shadow rules of a group get config, params and globals as decided, quoted by nobody."""
    snakefile = r"""
import os
NAMES = sorted(os.listdir("reads")) if os.path.isdir("reads") else []
rule all:
    input: "c.txt", "d.txt"
rule a:
    output: "a.txt"
    group: "g"
    params: names=NAMES
    run:
        open(output[0], "w").write(repr((config, params.names)))
rule b:
    input: "a.txt"
    output: "b.txt"
    group: "g"
    shadow: "minimal"
    params: pat=config["pat"], names=NAMES
    shell: "printf '%s\n' {params.pat:q} {params.names:q} > {output}"
rule c:
    input: "b.txt"
    output: "c.txt"
    group: "g"
    params: lines=lambda wildcards, input: len(open(input[0]).readlines())
    shell: "cat {input} > {output}; echo {params.lines} >> {output}"
rule d:
    input: "a.txt"
    output: "d.txt"
    group: "g"
    shadow: "shallow"
    shell: "cat {input} > {output}"
"""
    given = {"pat": r"\d+\.x", "cmd": "awk '{print $1}' `id`", "label": 'it\'s "q" x'}
    config = ["--config", *(f"{name}={value}" for name, value in given.items())]
    # Locally `run:` rules get --config through a shell, which does not get over these values.
    files = {"Snakefile": snakefile, "config.json": json.dumps(given), **READS}
    local = runs.locally(files, "--configfile", "config.json")
    assert local.status == 0, local.output

    decided = runs.decided(files, *config, hide=["reads"])

    assert decided.status == 0, decided.output
    assert decided.tree == local.tree


def test_globals_of_run_bodies_in_groups_are_compared(runs: Runs) -> None:
    """A `run:` rule of a group, which Snakemake gives a process of its own, is not run with other globals."""
    snakefile = """
import os
NAMES = sorted(os.listdir("reads")) if os.path.isdir("reads") else []
rule a:
    output: "a.txt"
    group: "g"
    run:
        open(output[0], "w").write(repr(NAMES))
rule b:
    input: "a.txt"
    output: "b.txt"
    group: "g"
    shell: "cp {input} {output}"
"""
    decided = runs.decided({"Snakefile": snakefile, **READS}, "b.txt", hide=["reads"])

    assert decided.status != 0
    assert "DIFFERS: rule a was not run" in decided.output
    assert "b.txt" not in decided.tree


def test_a_rule_that_is_another_one_there_is_not_run(runs: Runs) -> None:
    """Definitions under a condition are compared: command, script, code of `run:`, and that there is one."""
    snakefile = """
import os
if os.path.isdir("reads"):
    rule one:
        output: "one.txt"
        shell: "echo full > {output}"
    rule two:
        output: "two.txt"
        run:
            open(output[0], "w").write("full")
    rule three:
        output: "three.txt"
        script: "full.py"
    rule four:
        output: "four.txt"
        shell: "echo full > {output}"
else:
    rule one:
        output: "one.txt"
        shell: "echo test > {output}"
    rule two:
        output: "two.txt"
        run:
            open(output[0], "w").write("test")
    rule three:
        output: "three.txt"
        script: "test.py"
"""
    files = {"Snakefile": snakefile, "full.py": "", "test.py": "", **READS}
    names = ("one", "two", "three", "four")

    decided = runs.decided(files, "-k", *(f"{name}.txt" for name in names), hide=["reads"])

    assert decided.output.count("DIFFERS: rule") == len(names), decided.output
    assert not {f"{name}.txt" for name in names} & decided.tree.keys()


def test_values_without_a_plain_form_are_compared_by_their_content(runs: Runs) -> None:
    """A table that a `run:` body reads is the same table, or the job is not run."""
    pytest.importorskip("pandas")
    snakefile = """
import os
import pandas as pd
SHEET = pd.DataFrame({"n": [1, 2, 3] if os.path.isdir("reads") else [1]})
SAME = pd.DataFrame({"n": [1, 2, 3]})
rule one:
    output: "one.txt"
    run:
        open(output[0], "w").write(str(len(SHEET)))
rule two:
    output: "two.txt"
    params: table=SAME
    run:
        open(output[0], "w").write(str(len(SAME) + len(params.table)))
"""
    decided = runs.decided({"Snakefile": snakefile, **READS}, "-k", "one.txt", "two.txt", hide=["reads"])

    assert "`SHEET` is a value of type pandas" in decided.output, decided.output
    assert "one.txt" not in decided.tree
    assert decided.tree["two.txt"][2] == b"6"
