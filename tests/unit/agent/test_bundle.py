"""The agent as one file: the same for the same sources, and at home on an old, bare Python."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent import bundle as module
from tests.unit.agent.machine import Machine, oldest_python

# What Python 3.9 has of what is used; `sys.stdlib_module_names` would be that of a newer one.
_OURS = "snakemake_executor_ec2"


def _members() -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(module.bundle())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


_WITH_SNAKEMAKE = {
    "snakemake",
    "snakemake_interface_common",
    "snakemake_interface_executor_plugins",
    "pandas",
}


def test_the_same_sources_give_the_same_bytes() -> None:
    """So that its digest names it, and a machine that has it needs no other."""
    first, name = module.bundle(), module.digest()
    module.bundle.cache_clear()
    module.digest.cache_clear()
    assert module.bundle() == first
    assert module.digest() == name
    assert len(name) == 12


def test_nothing_of_the_controllers_goes_to_the_machine() -> None:
    """Agent modules, none of which imports anything but the standard library and its own kind; and the
    runner, which Snakemake's Python runs."""
    members = _members()
    assert set(members) > {"__main__.py", f"{_OURS}/agent/__main__.py", f"{_OURS}/agent/supervisor.py"}
    assert not {f"{_OURS}/agent/{name}.py" for name in ("bundle", "client", "protocol")} & set(members)
    for name, text in members.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [node.module or ""]
            else:
                continue
            for each in imported:
                allowed = {*sys.stdlib_module_names, _OURS, *(_WITH_SNAKEMAKE if "/runner/" in name else ())}
                assert each.split(".")[0] in allowed, f"{name} imports {each}"


def test_every_module_is_python_3_9() -> None:
    """Amazon Linux 2023's own Python reads all of it, but for the runner."""
    for name, text in _members().items():
        if "/runner/" in name:
            continue
        ast.parse(text, filename=name, feature_version=(3, 9))


@pytest.mark.skipif(oldest_python() is None, reason="there is no Python 3.9 here")
def test_every_module_can_be_imported_by_python_3_9(machine: Machine) -> None:
    """What only fails when it is run, such as `X | Y` outside of annotations."""
    modules = [name[:-3].replace("/", ".") for name in _members() if "/agent/" in name and "__" not in name]
    program = f"import sys; sys.path.insert(0, {str(machine.agent)!r}); " + "; ".join(
        f"import {name}" for name in modules
    )
    subprocess.run([machine.python, "-W", "error", "-c", program], check=True, cwd="/")


def test_it_runs_as_a_file_and_as_a_module(machine: Machine) -> None:
    """The file is for machines, the module for looking at it here."""
    assert machine.ask("status").said == {"lease_s": None, "lease_left_s": None}
    root = Path(module.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", f"{_OURS}.agent", "status"],
        cwd=root,
        env=machine.environment,
        capture_output=True,
        check=True,
    )
    assert b"lease_s" in done.stdout


@pytest.mark.parametrize(
    ("command", "given", "needless"),
    [
        ("pack", b"{}", {"extract", "parts", "arriving", "lanes", "standins", "local_disks"}),
        ("unpack", b"", {"standins", "local_disks"}),
    ],
)
def test_who_waits_for_files_does_not_wait_for_modules(
    machine: Machine, command: str, given: bytes, needless: set[str]
) -> None:
    """Each one of ours is compiled at every start; these of the standard library take milliseconds."""
    python, *words = machine.command(command)
    done = subprocess.run(
        [python, "-S", "-X", "importtime", *words],
        input=given,
        env=machine.environment,
        capture_output=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert f"{_OURS}.agent.frames" in imported
    assert not imported & {f"{_OURS}.agent.{name}" for name in needless}
    assert not imported & {"argparse", "ctypes", "shutil", "socket", "subprocess"}


def test_a_command_that_there_is_not(machine: Machine) -> None:
    """argparse's usual answer."""
    assert machine.ask("dance").exit_code == 2
    assert machine.ask("status", "../x").stderr == "'../x' cannot be a job's key\n"
