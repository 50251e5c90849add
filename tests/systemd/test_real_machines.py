"""The whole story on machines with a systemd, cloud-init and sshd of their own: `--systemd`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from snakemake_executor_ec2.testing import WorkflowRunner

from .rig import SUITES, SystemdCloud, make_image, missing

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


def test_a_workflow(runner: WorkflowRunner) -> None:
    """Outputs, a directory with a link, log and benchmark come home; there is nothing to do after."""
    run = runner(FILES, timeout_s=900)

    assert run.returncode == 0, run.output
    assert "could not be renewed" not in run.output
    user, _, node = (run.folder / "b.txt").read_text().partition(" ")
    assert user == "ec2-user"
    assert node.startswith("i-")
    assert (run.folder / "a.txt").read_text() == "data\n"
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


def _log(runner: WorkflowRunner) -> str:
    logs = (runner.folder / ".snakemake/log").glob("*.log")
    return "".join(log.read_text() for log in logs)


def _until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.5)
