"""What machines need of what Snakefiles import."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import CodeType

import pytest

from snakemake_executor_ec2.plugin import parse_reads
from snakemake_executor_ec2.plugin.imports import Imports, imports

YAML = f"pyyaml=={version('pyyaml')}"


def code(text: str) -> CodeType:
    return compile(text, "Snakefile", "exec")


@pytest.mark.parametrize(
    "text",
    [
        "import yaml",
        "from yaml import safe_load as load",
        "def f():\n    import yaml.nodes",
        "try:\n    import yaml, not_there_at_all\nexcept ImportError:\n    pass",
        "import os, json, snakemake, snakemake.utils\nfrom snakemake.io import expand\nimport yaml",
    ],
)
def test_versions_are_those_that_are_here(text: str) -> None:
    """Of packages that code imports anywhere; the standard library and Snakemake are there anyhow."""
    assert [each.lower() for each in imports([code(text)], own=()).pinned] == [YAML]


def test_a_module_of_the_workflow_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It travels as a file; one from elsewhere that no index has is told."""
    for folder in ("own", "lib"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"module_in_{folder}.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / folder)
        __import__(f"module_in_{folder}")
    found = imports([code("import module_in_own, module_in_lib")], own=[tmp_path / "own"])
    assert found == Imports(elsewhere=(("module_in_lib", str(tmp_path / "lib" / "module_in_lib.py")),))
    assert imports([code("import module_in_lib")], own=(), requirements="module-in-lib==1") == Imports()


def test_the_users_requirements_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they name is not pinned; that they want another version is told."""
    wanted = imports([code("import yaml")], own=(), requirements="# a comment\n-r more.txt\nPyYAML<1 # old\n")
    assert (wanted.pinned, [each for _, each in wanted.overruled]) == ((), ["PyYAML<1"])
    assert imports([code("import yaml")], own=(), requirements="pyyaml") == Imports()


def test_what_was_installed_from_a_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package index has that version."""
    package, about = tmp_path / "labtools", tmp_path / "labtools-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").write_text("")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: labtools\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("labtools\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert imports([code("import labtools")], own=()).pinned == ("labtools==1.0",)
    (about / "direct_url.json").write_text(json.dumps({"url": "file:///home/me/labtools"}))
    assert imports([code("import labtools")], own=()).elsewhere == (("labtools", "file:///home/me/labtools"),)


def test_code_of_snakefiles_and_modules_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Snakemake and Python run it; that of libraries is not."""
    (tmp_path / "own_code.py").write_text("import yaml\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(parse_reads, "_codes", [])

    class Workflow:
        pass

    parse_reads.listen()
    text = compile("import own_code, string", str(tmp_path / "Snakefile"), "exec")
    run = compile("exec(text, space)", "/site-packages/snakemake/workflow.py", "exec")
    space = {"workflow": Workflow()}
    exec(run, {"text": text, "space": space})  # noqa: S102
    parse_reads.stop()
    assert [Path(each.co_filename).name for each in parse_reads.codes()] == ["Snakefile", "own_code.py"]
    del sys.modules["own_code"]


@pytest.mark.parametrize(
    "call",
    [
        "subprocess.check_output(['git', '--version'])",
        "subprocess.run('git --version', shell=True, capture_output=True)",
        "os.system('git --version > /dev/null')",
        "os.popen('git --version').close()",
    ],
)
def test_programs_that_a_snakefile_calls_are_noted(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any of Python's ways."""

    class Workflow:
        pass

    monkeypatch.setattr(parse_reads, "_programs", {})
    parse_reads.listen()
    exec(compile(f"import os, subprocess\n{call}", "Snakefile", "exec"), {"workflow": Workflow()})  # noqa: S102
    parse_reads.stop()
    assert parse_reads.programs() == ("git",)


@pytest.mark.parametrize(
    ("text", "package"), [("workflow.set_pepfile('p')", "peppy"), ("workflow.pepschema('s')", "eido")]
)
def test_what_directives_import_is_needed_too(
    text: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake's `pepfile:` and `pepschema:` want packages that no Snakefile names."""
    about = tmp_path / f"{package}-1.5.dist-info"
    about.mkdir()
    (tmp_path / f"{package}.py").write_text("")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (about / "top_level.txt").write_text(f"{package}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    assert f"{package}==1.5" in imports([code(text)], own=()).pinned
