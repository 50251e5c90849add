"""conda and apptainer: found where they are, installed where they are not, and said where that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.agent.image import Image
from tests.unit.agent.machine import Answer, Machine


@pytest.fixture
def image(machine: Machine, tmp_path: Path) -> Image:
    made = Image(machine, tmp_path)
    made.python(tmp_path / "python", name="python3")
    (made.bin / "python3").symlink_to(tmp_path / "python/bin/python3")
    return made


def test_what_is_on_path_is_taken(image: Image) -> None:
    """A tool of the image's costs nothing and changes nothing."""
    image.program("conda", "")
    image.program("singularity", "")

    answer = _ask(image, "conda", "apptainer")

    assert answer.said["path"] == _ask(image).said["path"]
    assert not [call for call in image.log.read_text().splitlines() if call.startswith("conda")]


def test_a_conda_beside_path_is_found_without_its_python(image: Image) -> None:
    """A conda that the image or the setup script put into the home directory is taken, less its `bin`."""
    image.program("conda", "", image.machine.home / "miniforge3/condabin")

    assert _ask(image, "conda").said["path"][-1] == str(image.machine.home / "miniforge3/condabin")


def test_apptainer_comes_from_conda_forge_where_the_distribution_has_none(image: Image) -> None:
    """Amazon Linux has no apptainer: then conda makes an environment with it, which is on the job's PATH."""
    image.program("dnf", "exit 1")
    image.program("sudo", 'shift; exec "$@"')
    image.program(
        "conda",
        """
        while [ "$1" != --prefix ]; do shift; done
        mkdir -p "$2/bin"; cp "$0" "$2/bin/apptainer"
        """,
    )

    answer = _ask(image, "apptainer")

    ours = str(image.machine.state / "apptainer")
    assert answer.said["path"][-1] == f"{ours}/bin"
    assert (
        f"conda create --yes --quiet --prefix {ours} --override-channels --channel conda-forge apptainer"
        in image.log.read_text()
    )


@pytest.mark.parametrize("tool", ["conda", "apptainer"])
def test_what_cannot_be_installed_is_said(tool: str, image: Image) -> None:
    """Without a way to conda-forge the machine is not ready: one sentence, and the log has the reason."""
    image.program("curl", "echo 'curl: (6) Could not resolve host'; exit 6")

    answer = _ask(image, tool)

    assert answer.exit_code == 1
    assert answer.said["error"] == (
        f"{tool} could not be installed; put it on the image, or install it in --ec2-setup"
    )
    assert "Could not resolve host" in answer.said["log"]


def _ask(image: Image, *tools: str) -> Answer:
    return image.machine.ask(
        "software", request={"snakemake": "9.99.1", "packages": [], "tools": list(tools)}
    )
