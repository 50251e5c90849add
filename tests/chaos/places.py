"""Faults of the folder that a run works in, and of who else works there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.chaos.witness import Witness

if TYPE_CHECKING:
    from tests.chaos.faults import Scene

_ENDS_S = 120.0
"""Within so long a run that cannot go on has ended, with its machines."""
_OTHERS_S = 240.0
_CLAIMS = ("which no job of this run asked for", "left behind without a job to resume", "resuming")
"""What a run says that ends or takes over what an earlier one has on EC2."""


def hang_up(scene: Scene) -> None:
    """The window is closed."""
    _signal(scene, signal.SIGHUP)


def terminate(scene: Scene) -> None:
    """The computer is shut down, or a batch system's time is up."""
    _signal(scene, signal.SIGTERM)


def copy(scene: Scene) -> None:
    """`cp -a` of the folder, and a run in the copy: it is another workflow, and ends or takes nothing."""
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-chaos-") as name, Witness() as seen:
        there = Path(name, "copy")
        # Files come and go under a run that lives.
        subprocess.run(["cp", "-a", str(scene.folder), str(there)], check=False, capture_output=True)
        snakefile = there / "Snakefile"
        snakefile.write_text(snakefile.read_text().replace(f"/{scene.port};", f"/{seen.port};"))
        output = _other_run(scene, there, "--rerun-incomplete")
        for claim in _CLAIMS:
            if claim in output:
                scene.problems.append(f"a run in a copy of the folder claimed machines:\n{output}")


def remove_folder(scene: Scene) -> None:
    """`rm -rf` of the folder: the run ends, and its machines with it. Then all is placed anew."""
    scene.excused |= set(scene.machines("pending", "running").values())
    shutil.rmtree(scene.folder, ignore_errors=True)
    _wait_for_its_end(scene, "its folder was removed")
    scene.place()


def remove_journal(scene: Scene) -> None:
    """`rm -rf .snakemake`: the run comes to an end, and `stop` finds what there may be left."""
    scene.excused |= set(scene.machines("pending", "running").values())
    shutil.rmtree(scene.folder / ".snakemake", ignore_errors=True)
    _wait_for_its_end(scene, "its journal was removed")


def another_computer(scene: Scene) -> None:
    """Somebody calls in the same folder on another computer, which the locks do not reach. As long as
    this run lives, the other one does not begin."""
    _other_run(scene, scene.folder, env={"CHAOS_COMPUTER": "another"})


def _signal(scene: Scene, number: signal.Signals) -> None:
    scene.excused |= set(scene.machines("pending", "running").values())
    pid = scene.call.process.pid
    os.kill(pid, number)
    _wait(scene, lambda: scene.call.process.poll() is not None, f"{number.name} did not end the run")


def _wait_for_its_end(scene: Scene, why: str) -> None:
    if not _wait(scene, lambda: scene.call.process.poll() is not None, f"{why}, and the run went on"):
        return
    code = "import sys; from snakemake_executor_ec2.cli import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", code, "stop", "--yes", "--directory", str(scene.folder)],
        env={**scene.cloud.environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    _wait(scene, lambda: not scene.machines("pending", "running"), f"{why}, and machines stayed")


def _wait(scene: Scene, condition: Callable[[], bool], problem: str) -> bool:
    deadline = time.monotonic() + _ENDS_S
    while not condition():
        if time.monotonic() > deadline:
            scene.problems.append(problem)
            return False
        time.sleep(0.1)
    return True


def _other_run(scene: Scene, folder: Path, *options: str, env: dict[str, str] | None = None) -> str:
    """A run that is not the one under test, to its end."""
    runner = WorkflowRunner(scene.cloud, folder)
    process = runner.start(*scene.options, *options, env={**scene.env, **(env or {})})
    try:
        output, _ = process.communicate(timeout=_OTHERS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        scene.problems.append(f"a second run did not end:\n{output}")
    return output
