"""The whole story on machines with a systemd, cloud-init and sshd of their own: `--systemd`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from snakemake_executor_ec2.testing import WorkflowRunner

from .rig import OLDEST, SUITES, SystemdCloud, make_image, missing

pytestmark = [pytest.mark.systemd, pytest.mark.xdist_group("systemd"), pytest.mark.timeout(1800)]

SNAKEFILE = """
rule all:
    input: "a.txt", "tree", "b.txt"

rule a:
    input: "in.txt"
    output: "a.txt", directory("tree")
    log: "logs/a.log"
    benchmark: "benchmarks/a.tsv"
    resources: runtime=30
    shell: "(sleep 40; cat {input} > {output[0]}; mkdir -p tree/deep; ln -s deep tree/link) > {log}"

rule b:
    output: "b.txt"
    script: "b.py"
"""
FILES = {
    "Snakefile": SNAKEFILE,
    "in.txt": "data\n",
    "b.py": "import getpass, platform\n"
    "with open(snakemake.output[0], 'w') as file:\n"
    "    file.write(f'{getpass.getuser()} {platform.node()}')\n",
}


@pytest.fixture(scope="module", params=SUITES)
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdCloud]:
    """One for all tests, of each Debian."""
    if why := missing():
        pytest.skip(why)
    image = make_image(request.param)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with SystemdCloud(f"http://{host}:{port}", image, tmp_path_factory.mktemp("machines")) as cloud:
            cloud.suite = request.param
            yield cloud
    finally:
        server.stop()


@pytest.fixture
def runner(cloud: SystemdCloud, tmp_path: Path) -> Iterator[WorkflowRunner]:
    """Runs workflows there; no machine may be left."""
    folder = tmp_path / "workflow"
    folder.mkdir()
    yield WorkflowRunner(cloud, folder)  # type: ignore[arg-type]  # looks like one
    left = cloud.instances("pending", "running")
    if left:
        cloud.ec2.terminate_instances(InstanceIds=left)
    assert not left


def test_a_workflow(runner: WorkflowRunner, cloud: SystemdCloud) -> None:
    """Outputs, a directory with a link, log and benchmark come home; there is nothing to do after."""
    if cloud.suite == OLDEST:
        pytest.skip("no Python there that Snakemake could use")
    run = runner(FILES, timeout_s=900)

    assert run.returncode == 0, run.output
    assert "could not be renewed" not in run.output
    user, _, node = (run.folder / "b.txt").read_text().partition(" ")
    assert user == "ec2-user"
    assert node.startswith("i-")
    assert (run.folder / "a.txt").read_text() == "data\n"
    assert (run.folder / "a.txt").stat().st_mode & 0o777 == 0o644  # by this computer's umask
    assert (run.folder / "tree/link").readlink() == Path("deep")
    assert (run.folder / "logs/a.log").exists()
    assert (run.folder / "benchmarks/a.tsv").read_text().startswith("s\th:m:s")
    again = runner({}, "--dry-run")
    assert "Nothing to be done" in again.output


def test_a_killed_controller_is_followed_by_another(runner: WorkflowRunner, cloud: SystemdCloud) -> None:
    """After SIGKILL in mid-job the same command goes on with the machine, where systemd let the job live."""
    runner.place(FILES)
    first = runner.start("a.txt")
    _until(lambda: "running rule a" in _log(runner), first)
    before = set(cloud.instances("running"))
    first.kill()
    first.communicate()

    run = runner({}, "a.txt", timeout_s=900)

    assert run.returncode == 0, run.output
    assert "resuming rule a" in run.output
    assert "launched" not in run.output
    assert before
    assert not set(cloud.instances("running"))


def test_the_lease_ends_a_machine(runner: WorkflowRunner, cloud: SystemdCloud) -> None:
    """A machine whose Snakemake does not come back powers itself off, as its user may with sudo."""
    runner.place(FILES)
    first = runner.start("a.txt", "--ec2-lease", "2")
    _until(lambda: "running rule a" in _log(runner), first)
    (name,) = cloud.instances("running")
    first.kill()
    first.communicate()

    _until(lambda: name in cloud.powered_off)


LEFT = {
    "what can be removed": (
        "touch ~/x /tmp/y /dev/shm/z; ipcmk -M 1000; setsid sleep 1000 > /dev/null 2>&1 & hostname; sudo id",
        "",
    ),
    "a timer of the user's": ("systemd-run --user --on-active=900 --unit=job true", "job.service"),
    "a service of root's": ("sudo systemd-run --unit=job sleep 900", "job.service"),
    "the system's own": ("sudo systemctl restart cron; timedatectl; hostnamectl; loginctl", ""),
}
"""What two jobs leave, and the unit by which that is found, if the second needs another machine."""
_SEES = (
    'set +e; find ~ /tmp /dev/shm -path "*/.snakemake-ec2" -prune -o -path $PWD -prune -o -user ec2-user'
    " -print 2> /dev/null; ipcs; ls ~/.ssh"
)


@pytest.mark.parametrize(("mess", "unit"), LEFT.values(), ids=LEFT)
def test_one_job_after_another(runner: WorkflowRunner, mess: str, unit: str) -> None:
    """What goes on in a system does not keep a machine from its next job; what a job has left does."""
    run = runner(
        {
            "Snakefile": "rule all:\n    input: '1.txt', '2.txt'\n"
            "rule one:\n    output: '{n}.txt'\n"
            f"    shell: '({_SEES}) > {{output}}; ({mess}) >&2'\n"
        },
        "--verbose",
        jobs=1,
        timeout_s=600,
    )
    assert run.returncode == 0, run.output
    assert f"EC2: 2 jobs on {2 if unit else 1} machine" in run.output
    assert ("it has left a unit of systemd" in run.output) == bool(unit)
    assert f"unit of systemd: {unit}" in run.output or not unit
    assert (run.folder / "1.txt").read_text() == (run.folder / "2.txt").read_text()


def test_a_large_file_goes_from_machine_to_machine(runner: WorkflowRunner) -> None:
    """By certificates that their own sshd accepts."""
    (runner.folder / "large").write_bytes(bytes(20 << 20))
    run = runner(
        {
            "Snakefile": "rule all:\n    input: '1.txt', '2.txt'\n"
            "rule one:\n    input: 'large'\n    output: '{n}.txt'\n"
            "    shell: 'sha256sum {input} > {output}; sleep 20'\n"
        },
        *("--verbose", "--ec2-reuse", "never"),
        jobs=2,
        timeout_s=600,
    )
    assert run.returncode == 0, run.output
    assert "got 1 large file, 21 MB, from machine i-" in run.output
    assert (run.folder / "1.txt").read_text() == (run.folder / "2.txt").read_text()


def test_much_goes_through_openssh(runner: WorkflowRunner) -> None:
    """Up and down, past what a strict sshd and a noisy login shell have to say."""
    much = os.urandom(1 << 20) * 150
    (runner.folder / "much").write_bytes(much)
    run = runner(
        {
            "Snakefile": "rule one:\n    input: 'much'\n    output: 'same', 'logins'\n"
            "    shell: 'cp {input} {output[0]}; sudo journalctl -u ssh | grep Accepted > {output[1]}'\n"
        },
        timeout_s=600,
    )
    assert run.returncode == 0, run.output
    assert (run.folder / "same").read_bytes() == much
    # One login to begin with, and one for what was sent.
    assert len((run.folder / "logins").read_text().splitlines()) == 2


def _log(runner: WorkflowRunner) -> str:
    logs = (runner.folder / ".snakemake/log").glob("*.log")
    return "".join(log.read_text() for log in logs)


def _until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.5)
