"""What machines would decide otherwise is found on this computer, before one is launched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.plugin.preflight import NO_NAMESPACE
from snakemake_executor_ec2.testing import WorkflowRunner


def _has_namespaces() -> bool:
    child = [sys.executable, "-P", "-m", "snakemake_executor_ec2.plugin.preflight", "/nowhere", "[]"]
    return subprocess.run(child, capture_output=True, check=False).returncode != NO_NAMESPACE


pytestmark = pytest.mark.skipif(not _has_namespaces(), reason="no mount namespace is to be had here")

_RULES = """
rule all:
    input: "plain.txt", "body.txt"
rule plain:
    output: "plain.txt"
    shell: "echo > {output}"
rule body:
    input: "plain.txt"
    output: "body.txt"
    run:
        open(output[0], "w").write(str(VALUE))
"""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("import time\nVALUE = time.time_ns()", "`VALUE` is "),
        ("import os\nVALUE = os.getpid()", "`VALUE` is "),
        (
            "import subprocess\nVALUE = subprocess.check_output(['git', 'rev-parse', '--git-dir'])",
            "not a git repository",
        ),
        (
            "import subprocess\nVALUE = subprocess.check_output(['cat', '.hidden/sheet.txt'])",
            ".hidden/sheet.txt",
        ),
    ],
)
def test_nothing_is_launched_for_what_cannot_be_the_same(
    run_workflow: WorkflowRunner, value: str, said: str
) -> None:
    """A clock, a process number, git, programs that read what does not travel: a sentence, no machine."""
    subprocess.run(["git", "init", "-q", str(run_workflow.folder)], check=True)

    run = run_workflow({"Snakefile": value + _RULES, ".hidden/sheet.txt": "x\n"})

    assert run.returncode != 0
    assert "Nothing was launched" in run.output, run.output
    assert said in run.output
    assert ("The Snakefile calls " in run.output) == ("subprocess" in value)
    assert "launched c" not in run.output
    assert not list(Path(run_workflow.folder, ".snakemake", "ec2").glob("preflight-*"))


_SAME = """
import os, sqlite3, subprocess
NAMES = sorted(glob_wildcards('data/{n}.txt').n)
SIZES = os.path.getsize('data/a.txt'), os.path.exists('data/b.txt')
LISTED = sorted(os.listdir('data'))
TEXT = open('data/a.txt').read()
MODE = os.environ.get('RUN_MODE')
SET = {'b', 'a', 'c'}
PRINTED = subprocess.check_output(['cat', 'data/a.txt', 'data/b.txt'])
ROWS = sqlite3.connect('data/x.db').execute('select 1').fetchall()
VALUE = [NAMES, SIZES, LISTED, TEXT, MODE, sorted(SET), PRINTED, ROWS]
"""


def test_what_is_the_same_is_run(run_workflow: WorkflowRunner) -> None:
    """What a Snakefile can find out of its folder and its environment is no difference."""
    files = {"Snakefile": _SAME + _RULES, "data/a.txt": "a\n", "data/b.txt": "b\n", "data/x.db": ""}

    run = run_workflow(files, env={"RUN_MODE": "full"})

    assert run.returncode == 0, run.output
    found = [
        ["a", "b"],
        (2, True),
        ["a.txt", "b.txt", "x.db"],
        "a\n",
        "full",
        ["a", "b", "c"],
        b"a\nb\n",
        [(1,)],
    ]
    assert (run.folder / "body.txt").read_text() == str(found)


def test_input_that_is_not_there_yet_hinders_nobody(run_workflow: WorkflowRunner) -> None:
    """Params or resources that can't be decided before others have run are looked at on the machine."""
    snakefile = """
rule all:
    input: "b.txt"
rule a:
    output: "a.txt"
    shell: "echo 3 > {output}"
rule b:
    input: "a.txt"
    output: "b.txt"
    params: n=lambda wildcards, input: int(open(input[0]).read())
    resources: size=lambda wildcards: __import__("os").path.getsize("a.txt")
    run:
        open(output[0], "w").write(str(params.n))
"""
    run = run_workflow({"Snakefile": snakefile})
    assert run.returncode == 0, run.output
    assert (run.folder / "b.txt").read_text() == "3"
