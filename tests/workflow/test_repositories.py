"""Repositories as they are: Snakefiles beside the working directory, helpers beside Snakefiles."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import order, snakemake, tree

FILES = {
    "workflow/Snakefile": """
configfile: "config/config.yaml"
include: "rules/tools.smk"

CACHED = workflow.source_path("scripts/shared.txt")
PLACES = sorted(glob_wildcards(f"{workflow.basedir}/../resources/{{place}}.bed").place)

rule all:
    input: expand("out/{tool}.txt", tool=[*config["tools"], "helper", "places", "cached"])

rule helper:
    input: "data/in.txt", workflow.source_path("../resources/a.bed")
    output: "out/helper.txt"
    shell: "python {workflow.basedir}/scripts/helper.py {input} > {output}"

rule places:
    output: "out/places.txt"
    run:
        with open(output[0], "w") as file:
            print(*PLACES, file=file)
        shell("cat {CACHED} >> {output}")

rule cached:
    input: workflow.source_path("scripts/lib.py")
    output: "out/cached.txt"
    shell: "cat {CACHED} {input} > {output}"
""",
    "workflow/rules/tools.smk": """
rule tool:
    output: "out/{tool}.txt"
    params: also=workflow.source_path("../scripts/shared.txt")
    script: "../scripts/{wildcards.tool}.py"
""",
    "workflow/scripts/helper.py": "import sys\nfrom lib import told\nprint(told(open(sys.argv[1]).read()))\n",
    "workflow/scripts/lib.py": "def told(text): return text.upper()\n",
    "workflow/scripts/shared.txt": "shared\n",
    "workflow/scripts/one.py": "open(snakemake.output[0], 'w').write(open(snakemake.params.also).read())\n",
    "workflow/scripts/two.py": "import lib\nopen(snakemake.output[0], 'w').write(lib.told('two'))\n",
    "resources/a.bed": "a",
    "resources/b.bed": "b",
    ".test/config/config.yaml": "tools: [one, two]\n",
    ".test/data/in.txt": "content",
}


@pytest.mark.parametrize("tracked", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_repository_with_a_test_folder(tracked: bool, run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """`--directory .test`, helpers by `workflow.basedir` and `source_path`, scripts by wildcards."""
    here = tmp_path / "here"
    for folder in (here, run_workflow.folder):
        for name, content in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        if tracked:
            subprocess.run("git init -q . && git add .", shell=True, cwd=folder, check=True)  # noqa: S602
    local = snakemake(here, "-c2", "--directory", ".test")
    assert local.returncode == 0, local.stderr

    run = run_workflow({}, "--directory", ".test")

    assert run.returncode == 0, run.output
    left = {name: what for name, what in tree(run.folder).items() if not name.startswith(".git/")}
    assert left == {name: what for name, what in tree(here).items() if not name.startswith(".git/")}
    assert order(run.folder / ".test") == order(here / ".test")


def test_what_a_snakefile_imports_is_on_the_machine(run_workflow: WorkflowRunner) -> None:
    """In the version that is here, without being named in a requirements file; a lack is told before."""
    library = run_workflow.folder.parent / "library"
    library.mkdir()
    (library / "labtools.py").write_text("")
    run = run_workflow(
        {
            "Snakefile": """
import sys
import pandas as pd
try:
    import labtools
except ImportError:
    pass

TABLE = pd.read_csv("samples.tsv", sep="\\t", index_col="sample")

rule all:
    input: expand("{sample}.txt", sample=TABLE.index)

rule one:
    output: "{sample}.txt"
    params: dose=lambda wildcards: TABLE.loc[wildcards.sample, "dose"]
    run:
        with open(output[0], "w") as file:
            print(params.dose, pd.__version__, "site-packages" in pd.__file__, file=file)
""",
            "samples.tsv": "sample\tdose\na\t1.5\nb\t2.25\n",
        },
        env={"PYTHONPATH": str(library)},
    )
    assert run.returncode == 0, run.output
    assert (run.folder / "b.txt").read_text() == f"2.25 {version('pandas')} True\n"
    assert run.output.count("a Snakefile imports labtools, which your computer has from") == 1
