"""Software that is installed when a job first calls it, and not at all when none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.image import Image, install_uv
from tests.unit.agent.machine import Machine

_NAMES = ["pip", "python", "python3", "snakemake"]


@pytest.fixture
def image(machine: Machine, tmp_path: Path) -> Image:
    return Image(machine, tmp_path / "image")


def _direct(command: str) -> dict[str, Any]:
    return {
        "command": command,
        "executable": "bash",
        "threads": 1,
        "tmpdir": None,
        "made": [],
        "directories": [],
        "kept": [],
        "touched": [],
    }


def _run(image: Image, command: str, path: list[str], **more: Any) -> dict[str, Any]:
    image.machine.start("", direct=_direct(command), path_prepend=path, **more)
    return image.machine.finish()


def test_a_job_that_calls_nothing_of_it_installs_nothing(image: Image) -> None:
    """The shims are there before the job, in no time; nothing else is."""
    install_uv(image)
    answer = image.ask(late=_NAMES)
    assert answer.said["how"] == "late"
    assert _run(image, "echo done", answer.said["path"])["exit_code"] == 0
    assert image.calls() == []


def test_the_first_call_installs_and_becomes_the_program(image: Image) -> None:
    """Output, arguments and exit status are the program's own; a second call installs nothing."""
    install_uv(image)
    (image.bin / "made-3.12").write_text('#!/bin/sh\nprintf "%s|" "$@"; echo; exit 3\n')
    path = image.ask(late=_NAMES).said["path"]

    event = _run(image, "python -c 'a  b' '$x' || echo $?; python --y || echo $?", path)

    assert event["exit_code"] == 0
    assert image.machine.output().decode().splitlines() == ["-c|a  b|$x|", "3", "--y|", "3"]
    assert len([call for call in image.calls() if "uv venv" in call]) == 1


def test_what_is_there_is_used_at_once(image: Image, tmp_path: Path) -> None:
    """An image with Snakemake, or an earlier installation, needs no shims."""
    prefix = tmp_path / "conda"
    image.python(prefix, name="python")
    (image.bin / "python").symlink_to(prefix / "bin" / "python")
    assert image.ask(late=_NAMES).said["how"] == "image"


@pytest.mark.parametrize("command", ["python x.py", "python x.py || true", "python x.py | cat; exit 4"])
def test_a_failed_installation_is_told_as_such(image: Image, command: str) -> None:
    """Also if the job goes on without: it has computed something else than it would have at home."""
    install_uv(image, failing="venv")
    path = image.ask(late=_NAMES).said["path"]

    event = _run(image, command, path)

    assert event["failure"] == "no software", image.machine.output()
    assert event["exit_code"] != 0
    assert "could not be installed when the job called python" in event["evidence"]


def test_the_wait_for_software_does_not_count_as_runtime(image: Image) -> None:
    """A job whose limit is shorter than an installation is not ended by it."""
    install_uv(image)
    (image.bin / "made-3.12").write_text("#!/bin/sh\necho it ran\n")
    uv = (image.bin / "uv").read_text().replace("#!/bin/bash\n", "#!/bin/bash\nsleep 1.5\n")
    (image.bin / "uv").write_text(uv)
    path = image.ask(late=_NAMES).said["path"]

    event = _run(image, "python x.py", path, runtime_s=2)

    assert event["failure"] is None, event
    assert b"it ran" in image.machine.output()
    assert event["seconds"] < 2
