"""Software: found where it is, installed where it is not, with as few steps as it takes.

Interpreters and installers are small scripts in a directory that is all of PATH.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.unit.agent.image import Image, install_uv
from tests.unit.agent.machine import Answer, Machine


@pytest.fixture
def image(machine: Machine, tmp_path: Path) -> Image:
    return Image(machine, tmp_path / "image")


def test_an_image_that_has_everything_is_left_alone(image: Image, tmp_path: Path) -> None:
    """Nothing is installed; the answer is its interpreter."""
    prefix = tmp_path / "conda"
    image.python(prefix, name="python")
    (image.bin / "python").symlink_to(prefix / "bin" / "python")
    answer = image.ask()
    assert answer.said["how"] == "image"
    assert answer.said["python"] == f"{prefix}/bin/python"
    assert answer.said["path"] == [f"{prefix}/bin"]
    assert image.calls() == []


def test_an_environment_is_found_through_its_snakemake(image: Image, tmp_path: Path) -> None:
    """Also where only a login shell knows the way, as conda arranges it."""
    prefix = tmp_path / "conda"
    python = image.python(prefix, name="python")
    image.program("snakemake", "", prefix / "bin").write_text(f"#!{python}\n")
    (image.machine.home / ".bash_profile").write_text(f"echo noise; PATH={prefix}/bin:$PATH\n")
    assert image.ask().said["python"] == str(python)


def test_an_interpreter_by_another_name_becomes_python(image: Image, tmp_path: Path) -> None:
    """Snakemake's command says `python`."""
    prefix = tmp_path / "usr"
    image.python(prefix, name="python3.12")
    (image.bin / "python3.12").symlink_to(prefix / "bin" / "python3.12")
    path = image.ask().said["path"]
    assert path[1:] == [f"{prefix}/bin"]
    done = subprocess.run([f"{path[0]}/python", "-c", ""], capture_output=True, check=True)
    assert b"lacking" in done.stdout


def test_an_old_python_or_snakemake_does_not_count(image: Image, tmp_path: Path) -> None:
    """The version must be the controller's, and Python new enough."""
    install_uv(image)
    image.python(tmp_path / "a", name="python3", version="3.9")
    image.python(tmp_path / "b", name="python", snakemake="9.98.0")
    for folder, name in (("a", "python3"), ("b", "python")):
        (image.bin / name).symlink_to(tmp_path / folder / "bin" / name)
    answer = image.ask()
    assert answer.said["how"] == "uv"
    assert answer.said["python"] == str(image.machine.state / "env" / "bin" / "python")


def test_uv_makes_an_environment_in_two_steps(image: Image) -> None:
    """With a Python of the machine's where there is one; nothing else is called."""
    install_uv(image)
    answer = image.ask(requirements="pandas\n")
    environment = image.machine.state / "env"
    assert answer.said["path"] == [f"{environment}/bin"]
    assert image.calls() == [
        f"uv venv --python >=3.11 --python-preference system --no-python-downloads {environment}",
        f"uv pip install --python {environment}/bin/python --offline snakemake==9.99.1 "
        f"snakemake-storage-plugin-none==0.1 -r {image.machine.state}/requirements.txt",
    ]
    assert (image.machine.state / "requirements.txt").read_text() == "pandas\n"


def test_what_the_machine_has_not_comes_from_the_registry(image: Image) -> None:
    """uv's cache is tried first, and its failure is none."""
    install_uv(image, cached=False)
    answer = image.ask()
    assert answer.said["how"] == "uv"
    install = f"uv pip install --python {image.machine.state}/env/bin/python"
    wanted = "snakemake==9.99.1 snakemake-storage-plugin-none==0.1"
    assert image.calls()[1:] == [f"{install} --offline {wanted}", f"{install} {wanted}"]


OWN = "--python-preference system --no-python-downloads"
FETCHED = "--python-preference only-managed"


@pytest.mark.parametrize(
    ("has", "has_wheels", "tried", "taken"),
    [
        (["3.12"], "3.1[0-4]", [f">=3.11,<3.14 {OWN}"], "==3.12.*"),
        # Of its own only a newer one: good if that works out, else an older one is fetched.
        (["3.14"], "3.1[0-4]", [f">=3.11,<3.14 {OWN}", f">=3.11 {OWN}"], "==3.14.*"),
        (
            ["3.14", "fetched"],
            "3.1[0-3]",
            [f">=3.11,<3.14 {OWN}", f">=3.11 {OWN}", f">=3.11,<3.13 {FETCHED}"],
            "==3.12.*",
        ),
        # Amazon Linux: its own is too old. As new as the controller's, or older where that has no wheels.
        (
            ["fetched"],
            "3.1[0-3]",
            [f">=3.11,<3.14 {OWN}", f">=3.11 {OWN}", f">=3.11,<3.14 {FETCHED}"],
            "==3.13.*",
        ),
        (
            ["fetched"],
            "3.1[0-2]",
            [f">=3.11,<3.14 {OWN}", f">=3.11 {OWN}", f">=3.11,<3.14 {FETCHED}", f">=3.11,<3.13 {FETCHED}"],
            "==3.12.*",
        ),
    ],
)
def test_which_python(image: Image, has: list[str], has_wheels: str, tried: list[str], taken: str) -> None:
    """The machine's own, else one that uv fetches; where packages would have to be compiled for it, an older
    one. The next machine is told what it came down to."""
    install_uv(image, has=has, has_wheels=has_wheels)
    answer = image.ask(python=">=3.11,<3.14")
    assert answer.said["how"] == "uv"
    assert answer.said["versions"] == taken
    venvs = [call.removeprefix("uv venv --python ") for call in image.calls() if "venv" in call]
    assert [call.rpartition(" ")[0] for call in venvs] == tried


def test_what_lacks_is_put_on_top(image: Image, tmp_path: Path) -> None:
    """An image with Snakemake gets only what it has not; in place where that may be."""
    install_uv(image)
    prefix = tmp_path / "conda"
    image.python(prefix, name="python3", lacking='["snakemake-storage-plugin-none==0.1"]')
    (image.bin / "python3").symlink_to(prefix / "bin" / "python3")
    answer = image.ask()
    assert answer.said["python"] == f"{prefix}/bin/python3"
    assert image.calls() == [
        f"uv pip install --python {prefix}/bin/python3 --offline snakemake-storage-plugin-none==0.1"
    ]


def test_on_top_of_what_may_not_be_written_to(image: Image, tmp_path: Path) -> None:
    """An environment of our own that sees the image's packages."""
    prefix = tmp_path / "conda"
    image.python(prefix, name="python3", lacking='["pandas"]', writable=False)
    (image.bin / "python3").symlink_to(prefix / "bin" / "python3")
    answer = image.ask(requirements="pandas")
    environment = image.machine.state / "env"
    assert answer.said["how"] == "pip"
    assert answer.said["path"] == [f"{environment}/bin", f"{prefix}/bin"]
    assert image.calls()[0] == f"python3 -m venv --system-site-packages {environment}"


def test_a_real_interpreter_is_asked(machine: Machine, tmp_path: Path) -> None:
    """A virtual environment knows its own packages, and where its programs are."""
    below = tmp_path / "below"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", below], check=True)
    [site] = below.glob("lib/python3*/site-packages")
    _install(site, "snakemake", "9.99.1")
    _install(site, "below", "1.0")
    machine.environment["PATH"] = f"{below}/bin:{os.environ['PATH']}"
    answer = machine.ask("software", request={"snakemake": "9.99.1", "packages": ["below==1.0"]})
    assert answer.said["how"] == "image"
    assert answer.said["path"] == [f"{below}/bin"]


def _install(site: Path, name: str, version: str) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_a_second_call_has_its_answer_at_once(image: Image) -> None:
    """A controller that lost its connection asks again."""
    install_uv(image)
    first = image.ask()
    calls = image.calls()
    second = image.ask()
    assert image.calls() == calls
    assert {**second.said, "seconds": 0} == {**first.said, "seconds": 0}


def test_a_second_call_waits_for_the_first(image: Image) -> None:
    """Both get the answer, and the work is done once."""
    install_uv(image)
    answers: list[Answer] = []
    slow = {"setup": "sleep 0.7; touch $HOME/once-$$\n"}
    threads = [threading.Thread(target=lambda: answers.append(image.ask(**slow))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.exit_code for answer in answers] == [0, 0]
    assert len(list(image.machine.home.glob("once-*"))) == 1


def test_the_setup_script_comes_first(image: Image) -> None:
    """What it installs is found; it runs in the home directory, and ends at its first failure."""
    script = (
        f"pwd > where\nprintf '#!/bin/sh\\n' > {image.bin}/uv; chmod +x {image.bin}/uv\nfalse\ntouch never\n"
    )
    answer = image.ask(setup=script)
    assert answer.exit_code == 1
    assert answer.said["error"] == "the setup script failed"
    assert (image.machine.home / "where").read_text().strip() == str(image.machine.home)
    assert not (image.machine.home / "never").exists()


def test_the_setup_script_runs_once(image: Image) -> None:
    """Also where a machine's next job wants other software (--ec2-reuse run): a script that makes a file
    system or mounts one cannot run twice. One that failed runs again."""
    install_uv(image)
    script = "echo >> times; [ -e ready ]\n"
    assert image.ask(setup=script).said["error"] == "the setup script failed"
    (image.machine.home / "ready").touch()
    assert image.ask(setup=script).exit_code == 0
    assert image.ask(setup=script, packages=["another"]).exit_code == 0
    assert (image.machine.home / "times").read_text() == "\n\n"


@pytest.mark.parametrize("has_some", [False, True])
def test_a_python_that_uv_fetches_is_kept_with_the_rest(image: Image, has_some: bool) -> None:
    """What a job's late installation leaves elsewhere at home is removed after the job, as the job's. What
    uv has fetched for the image is found where it is."""
    image.program("uv", 'echo "${UV_PYTHON_INSTALL_DIR-unset}" > "$HOME/where"; exit 2')
    if has_some:
        (image.machine.home / ".local" / "share" / "uv" / "python").mkdir(parents=True)
    image.ask()
    expected = "unset" if has_some else str(image.machine.home / ".snakemake-ec2" / "pythons")
    assert (image.machine.home / "where").read_text().strip() == expected


def test_a_failure_comes_with_the_end_of_the_log(image: Image) -> None:
    """A sentence, and what the installer said; the next call tries again."""
    install_uv(image, failing="pip")
    for _ in range(2):
        answer = image.ask()
        assert answer.exit_code == 1
        assert answer.said["error"]
        assert "error: no solution for this" in answer.said["log"]
        assert answer.said["log"].count("/uv pip install") == 2


def test_pip_takes_over_where_it_has_an_index_of_its_own(image: Image, tmp_path: Path) -> None:
    """A mirror that only pip was told of."""
    install_uv(image, failing="pip")
    image.python(tmp_path / "usr", name="python3", snakemake=None)
    (image.bin / "python3").symlink_to(tmp_path / "usr" / "bin" / "python3")
    image.machine.environment["PIP_INDEX_URL"] = "file:///mirror"
    answer = image.ask()
    assert answer.said["how"] == "pip"
    environment = image.machine.state / "env"
    assert image.calls()[-2:] == [
        f"python3 -m venv {environment}",
        "python3 -m pip install snakemake==9.99.1 snakemake-storage-plugin-none==0.1",
    ]


def test_a_machine_without_a_new_python_gets_the_distributions(image: Image) -> None:
    """As root or through sudo; where that fails, the sentence says what is missing."""
    image.program("dnf", "exit 1")
    image.program("sudo", 'shift; exec "$@"')
    answer = image.ask()
    assert answer.exit_code == 1
    assert "no Python 3.11 or newer" in answer.said["error"]
    assert any("dnf -y install python3.12" in call for call in image.calls())


def test_another_apt_at_work_is_waited_for(image: Image, tmp_path: Path) -> None:
    """The system fetches its lists of packages after a boot, and apt fails at once meanwhile."""
    image.program("sudo", 'shift; exec "$@"')
    held = tmp_path / "held"
    held.touch()
    image.program(
        "apt-get",
        f"""
        case "$*" in
            *update) [ -e {held} ] || exit 0; rm {held}
                echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7" >&2; exit 100;;
            *) exit 1
        esac
        """,
    )
    answer = image.ask()
    calls = [line.split()[-1] for line in image.log.read_text().splitlines() if line.startswith("apt-get")]
    assert answer.exit_code == 1
    assert calls[:3] == ["update", "update", "python3.12-venv"]


def test_it_is_quick_where_there_is_nothing_to_do(image: Image, tmp_path: Path) -> None:
    """An image that has everything costs a moment."""
    prefix = tmp_path / "conda"
    image.python(prefix, name="python")
    (image.bin / "python").symlink_to(prefix / "bin" / "python")
    began = time.monotonic()
    image.ask()
    assert time.monotonic() - began < 2


def test_one_installation_serves_requests_that_differ_in_tools_and_in_what_saves_work(
    image: Image, tmp_path: Path
) -> None:
    """A setup script is run once, also if a job needs conda on top, or others have chosen a Python before."""
    prefix = tmp_path / "conda"
    image.python(prefix, name="python")
    (image.bin / "python").symlink_to(prefix / "bin" / "python")
    image.program("conda", "echo conda 25")
    image.program("date", "echo now")
    setup = 'echo again >> "$HOME/setups"'

    first = image.ask(setup=setup)
    later = image.ask(setup=setup, tools=["conda"], python="==3.12.*", locked=["snakemake==9.0"])

    assert (first.exit_code, later.exit_code) == (0, 0), later
    assert later.said["python"] == first.said["python"]
    assert (image.machine.home / "setups").read_text() == "again\n"
    assert image.ask(setup="exit 1").exit_code != 0
