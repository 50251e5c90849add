"""Which jobs are the same: those whose results would be."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    DAGSettings,
    DeploymentMethod,
    DeploymentSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.plugin.fingerprint import fingerprint
from tests.workflow.in_process import LEAVES_FILES_OPEN

pytestmark = LEAVES_FILES_OPEN

SOFTWARE = Software(snakemake="9")
BOTH = frozenset({DeploymentMethod.CONDA, DeploymentMethod.APPTAINER})
FILES = {
    "Snakefile": "rule all:\n    input: 'o', 'p', 's.q', 'r'\n"
    "rule one:\n    output: 'o'\n    conda: 'env.yaml'\n    container: 'docker://a:1'\n"
    "    shell: 'touch {output}'\n"
    "rule two:\n    output: 'p'\n    wrapper: 'file:wrapper'\n"
    "config['depth'] = 3\nLEVEL = 'low'\n"
    "rule three:\n    output: '{name}.q'\n    script: 'scripts/{wildcards.name}.py'\n"
    "rule four:\n    output: 'r'\n    run:\n        open(output[0], 'w').write(LEVEL)\n",
    "scripts/s.py": "pass\n",
    "env.yaml": "dependencies: [a=1]\n",
    "env.linux-64.pin.txt": "@EXPLICIT\n",
    "wrapper/wrapper.py": "pass\n",
    "wrapper/environment.yaml": "dependencies: [a=1]\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def mark(*, methods: frozenset[DeploymentMethod] = BOTH, software: Software = SOFTWARE) -> str:
    """Of all jobs, as Snakemake has them."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        made = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            deployment_settings=DeploymentSettings(deployment_method=methods),
            snakefile=Path("Snakefile"),
        )
        made.dag(DAGSettings())
        workflow = made._workflow
        workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        return fingerprint(workflow.dag.jobs, software)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("Snakefile", "touch", "date >"),
        ("Snakefile", "docker://a:1", "docker://a:2"),
        ("Snakefile", "config['depth'] = 3", "config['depth'] = 4"),
        ("Snakefile", "LEVEL = 'low'", "LEVEL = 'high'"),
        ("scripts/s.py", "pass", "print()"),
        ("env.yaml", "a=1", "a=2"),
        ("env.linux-64.pin.txt", "EXPLICIT", "EXPLICIT\na=1.1"),
        ("wrapper/wrapper.py", "pass", "print()"),
        ("wrapper/environment.yaml", "a=1", "a=2"),
    ],
)
def test_what_makes_another_job(folder: Path, name: str, old: str, new: str) -> None:
    """Another command, another environment for the same command, and what code sees: a config that scripts
    read, a global of a `run:` body, a script that is named by a wildcard."""
    before = mark()
    (folder / name).write_text(FILES[name].replace(old, new))
    assert mark() != before


_PRINTED = """
import sys
sys.path[:0] = [{root!r}]
from tests.unit.plugin.test_fingerprint import mark
print(mark())
"""


def test_the_order_of_a_set_is_no_other_job(folder: Path) -> None:
    """After a kill another process asks, with another seed for hashes: the job's results are not given up.
    The order of a list is another job."""
    text = FILES["Snakefile"].replace("LEVEL = 'low'", "LEVELS, LEVEL = {'a', 'b', 'c', 'd', 'e'}, 'low'")
    text = text.replace("write(LEVEL)", "write(LEVEL + str(sorted(LEVELS)))")
    (folder / "Snakefile").write_text(text)
    code = _PRINTED.format(root=str(Path(__file__).parents[3]))
    marks = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(marks) == 1

    before = mark()
    (folder / "Snakefile").write_text(text.replace("= {'a', 'b', 'c', 'd', 'e'}", "= ['a', 'b']"))
    listed = mark()
    (folder / "Snakefile").write_text(text.replace("= {'a', 'b', 'c', 'd', 'e'}", "= ['b', 'a']"))
    assert len({before, listed, mark()}) == 3


def test_what_machines_are_prepared_with() -> None:
    """What the user has installed counts; the controller's own Snakemake does not."""
    before = mark()
    assert mark(software=replace(SOFTWARE, snakemake="10")) == before
    assert mark(software=replace(SOFTWARE, requirements="numpy==2")) != before
    assert mark(software=replace(SOFTWARE, setup="dnf install R")) != before


def test_an_environment_that_is_not_used(folder: Path) -> None:
    """Without --sdm conda, what its file says makes no difference."""
    before = mark(methods=frozenset())
    (folder / "env.yaml").write_text("dependencies: [a=2]\n")
    assert mark(methods=frozenset()) == before
    assert mark() != before


def test_environments_that_are_no_files(folder: Path) -> None:
    """One by its name, and one by the folder that it is installed in, are told apart by these."""
    marks = set()
    for environment in ("named", "other", str(folder / "installed")):
        (folder / "Snakefile").write_text(FILES["Snakefile"].replace("env.yaml", environment))
        marks.add(mark())
    assert len(marks) == 3
