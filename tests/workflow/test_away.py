"""`snakemake-ec2 away`: a run whose controller is a machine of the embedded cloud."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import snakemake_executor_ec2
from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.local.environment import CONTROL_TOKEN
from tests.receiver import SECRET, receiving
from tests.workflow.shell import Shell

pytestmark = pytest.mark.usefixtures("no_groups_of_others")

AWS = Path(snakemake_executor_ec2.__file__).parent / "aws"
SNAKEFILE = """
rule all:
    input: "out/joined.txt"

rule part:
    input: "data/{name}.txt"
    output: "out/{name}.txt"
    log: "logs/{name}.log"
    benchmark: "benchmarks/{name}.tsv"
    shell: "tr a-z A-Z < {input} > {output}; echo noted > {log}"

rule join:
    input: "data/slow", expand("out/{name}.txt", name=["a", "b"])
    output: "out/joined.txt"
    shell: "sleep $(cat {input[0]}); cat {input[1]} {input[2]} > {output}"
"""
FILES = {"Snakefile": SNAKEFILE, "data/a.txt": "alpha\n", "data/b.txt": "beta\n", "data/slow": "0\n"}
WHERE = "/home /root /etc /tmp /run /var/log /var/lib /var/tmp"


class Away:
    """A folder with a workflow, a cloud, and `snakemake-ec2 away` in it."""

    def __init__(
        self, cloud: EmbeddedCloud, shell: Shell, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.cloud = cloud
        self.shell = shell
        self.folder = folder
        self._capfd = capfd
        for name, text in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(text)

    def __call__(self, command: str, *arguments: str, status: int = 0) -> str:
        """What `snakemake-ec2 away` printed to standard output; it has to end with a status."""
        self._capfd.readouterr()
        ended = main(["away", command, "--directory", str(self.folder), *arguments])
        printed = self._capfd.readouterr()
        assert ended == status, printed
        return printed.out

    def start(self, *arguments: str, status: int = 0, timeout_s: float = 300) -> str:
        """Start the run from a terminal of its own, which is closed then; what was printed."""
        command = [str(Path(sys.executable).with_name("snakemake-ec2")), "away", "start", "--jobs", "4"]
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == status, output
        return output

    def watching(self, *command: str) -> subprocess.Popen[str]:
        """A command of `away`, when it shows what the run prints."""
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("snakemake-ec2")), "away", *command],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        while "2 of 4 steps" not in process.stdout.readline():
            assert process.poll() is None
        return process

    def wait_for(self, words: str, *, within_s: float = 180) -> str:
        """What `away status` says once it has these words."""
        return str(_until(lambda: words in (told := self("status")) and told, within_s))

    @property
    def machine(self) -> str:
        """The controller's machine."""
        (row,) = (line for line in self.shell(self.folder, "ps").splitlines() if "away controller" in line)
        return row.split()[0]

    def on_machine(self, command: str) -> str:
        """What a command prints as root on the controller's machine."""
        path = f"instances/{self.machine}/shell"
        return str(self.cloud.faults.request("POST", path, {"command": command})["output"])

    def dry_run(self, *targets: str) -> str:
        """What a local `snakemake -n` says."""
        command = [sys.executable, "-m", "snakemake", "-n", *targets]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr


def _until(look: Callable[[], Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)
    return found


@pytest.fixture
def away(
    ec2_cloud: EmbeddedCloud, shell: Shell, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Away]:
    """Everybody has exactly the permissions that docs/permissions.md names."""
    found = Away(ec2_cloud, shell, tmp_path / "workflow", capfd)
    assert main(["away", "setup"]) == 0
    policies = [json.loads((AWS / name).read_text()) for name in ("policy.json", "policy-away.json")]
    statements = [row for each in policies for row in each["Statement"]]
    ec2_cloud.allow(json.dumps({**policies[0], "Statement": statements}))
    ec2_cloud.forget_calls()
    yield found
    ec2_cloud.allow(None)


def test_a_run_goes_on_without_this_computer(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started, its terminal closed; it ends alone, says so, its results come home with what Snakemake
    noted, and no machine is left. No credential of this computer was on the machine, and who is told is in no
    file and on no command line there."""
    with receiving() as (url, got):
        monkeypatch.setenv("SNAKEMAKE_EC2_NOTIFY", url)
        told = away.start()
        monkeypatch.delenv("SNAKEMAKE_EC2_NOTIFY")
        _goes_on_alone(away, told)
    ((_, document),) = got
    assert (document["outcome"], document["jobs_done"], document["folder"]) == ("success", 4, "workflow")


def _goes_on_alone(away: Away, told: str) -> None:
    assert "your computer may be off now" in told
    pattern = f"{SECRET[:-1]}[{SECRET[-1]}]"  # which is not what it finds
    seen = away.on_machine(f"grep -rla '{pattern}' {WHERE} {away.folder} /proc/[0-9]*/cmdline 2>/dev/null")
    assert seen == ""

    machine = away.machine
    secrets = [away.cloud.env[name] for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", CONTROL_TOKEN)]
    patterns = " ".join(f"-e {shlex.quote(each)}" for each in secrets)
    found = away.on_machine(f"grep -rlaF {patterns} {WHERE} /proc/[0-9]*/environ {away.folder} 2>/dev/null")
    assert [path for path in found.split() if "/self/" not in path] == []
    status = away.wait_for("has ended well")
    assert "4 of 4 steps (100%) done" in status
    assert "ends in 24 hours" in status
    assert "rule" in status

    assert "fetched" in away("fetch")

    assert (away.folder / "out/joined.txt").read_text() == "ALPHA\nBETA\n"
    assert (away.folder / "logs/a.log").read_text() == "noted\n"
    assert (away.folder / "benchmarks/b.tsv").read_text().startswith("s\t")
    assert "Nothing to be done" in away.dry_run()
    assert away.cloud.machine_states()[machine] in ("shutting-down", "terminated")
    refused = [call for call in away.cloud.calls() if call["status"] == 403]
    assert refused == []
    assert "no run of this folder is away" in away("status")
    assert "4 of 4 steps" in away.shell(away.folder, "logs", "away controller")
    assert away.shell.groups() == {}


@pytest.mark.slow
def test_a_crashed_machine_goes_on_from_what_was_finished(away: Away) -> None:
    """It is rebooted with its disk: what was finished is not made again, jobs' machines do not stay, and
    another start sends only what has changed."""
    (away.folder / "data/slow").write_text("20\n")
    away.start()
    away.wait_for("2 of 4 steps")
    fetched = away("fetch", "out/*")
    assert "fetched 2 files" in fetched
    assert not (away.folder / "out/joined.txt").exists()
    machine = away.machine
    away.cloud.faults.request("POST", f"instances/{machine}/crash", {})
    assert "does not answer" in _said(away, "status")
    (away.folder / "data/slow").write_text("1\n")

    told = away.start()

    assert "rebooting it" in told
    assert "2 B were sent, 3 files were there already" in told
    away.wait_for("has ended well")
    log = away("logs")
    assert "rule join" in log
    assert "rule part" not in log.replace("localrule", "")
    assert away.machine == machine
    away("fetch")
    assert (away.folder / "out/joined.txt").read_text() == "ALPHA\nBETA\n"
    assert "Nothing to be done" in away.dry_run()
    _until(lambda: set(away.cloud.machine_states().values()) <= {"terminated"}, 30)


@pytest.mark.slow
def test_a_failed_run_waits_for_a_look_and_goes_on_when_it_is_mended(
    away: Away, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its machine stays, and has what is finished; `--wait` exits as Snakemake does, and ends the machine
    after a good end. It uses the profile of AWS that the start has used."""
    (away.folder / "Snakefile").write_text(SNAKEFILE.replace("sleep $(cat {input[0]})", "exit 3"))
    failed = away.start("--wait", status=1)
    assert "Its machine waits for --keep, and costs money" in failed
    assert "0 done" not in failed, "the costs of the start itself are no end of a run"
    assert "has failed (exit status 1)" in away("status")
    assert "Error in rule join" in away("attach", status=1)
    assert (away.folder / "out/a.txt").read_text() == "ALPHA\n"
    ps = away.shell(away.folder, "ps")
    assert "has a run that is away" in ps
    assert "found: 0 machines" in away.shell(away.folder, "gc")

    (away.folder / "Snakefile").write_text(SNAKEFILE)
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    profile = [f"{name.lower()} = {away.cloud.env[name]}\n" for name in keys]
    (tmp_path / "config").write_text("".join(["[profile lab]\n", *profile]))
    with monkeypatch.context() as alone:
        alone.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for name in keys:
            alone.delenv(name)
        told = away.start("--wait", "--ec2-profile", "lab")

    assert "4 files were there already" not in told
    assert "again" in told
    assert "terminated" in told
    assert (away.folder / "out/joined.txt").read_text() == "ALPHA\nBETA\n"


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_no_machine(away: Away) -> None:
    """Snakemake ends its jobs' machines, and the controller's is ended then; a local run beside it, and its
    end, have left it alone. What is here need not be made again, on another machine."""
    (away.folder / "data/slow").write_text("600\n")
    away.start()
    away.wait_for("2 of 4 steps")
    others = _until(lambda: len(_alive(away.cloud)) > 1 and _alive(away.cloud), 60)
    local = [sys.executable, "-m", "snakemake", "--executor", "ec2", "--jobs", "1", "out/a.txt"]
    here = subprocess.run(local, cwd=away.folder, check=True, capture_output=True, text=True)
    assert f"A run of this folder is away on {away.machine}" in here.stderr
    assert away.machine in _alive(away.cloud)

    for look in (["attach"], ["logs", "-f"], ["start", "--jobs", "4", "--wait"]):
        watching = away.watching(*look)
        watching.send_signal(signal.SIGINT)
        assert "the run goes on without you" in watching.communicate(timeout=60)[0]
        assert watching.returncode == 130
    assert "is running" in away("status")

    assert "terminated" in away("stop", "--yes")

    assert set(_alive(away.cloud)) & set(others) == set()
    assert away.shell.groups() == {}
    assert "no run of this folder is away" in away("status")
    (away.folder / "data/slow").write_text("0\n")
    told = away.start("--wait", "out/b.txt", "out/a.txt")
    assert "1 of 1 steps" in told
    assert "there already" not in told, "a new machine has nothing yet"
    assert "Nothing to be done" in away.start("out/a.txt", "out/b.txt")


KILLED = """
import os, signal, sys
from snakemake_executor_ec2.away.machine import AwayMachine
from snakemake_executor_ec2.cli import main
AwayMachine.begin = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
main(["away", "start", "--jobs", "4", "out/a.txt"])
"""


@pytest.mark.slow
def test_a_start_that_is_killed_replaces_no_newer_result(away: Away) -> None:
    """Killed when the journal has it and nothing runs yet: the next one does not take the machine for new,
    and what it has made since the last fetch stays."""
    made = away.folder / "out/a.txt"
    away.start("out/a.txt")
    away.wait_for("has ended well")
    away("fetch", "out/*")
    (away.folder / "data/a.txt").write_text("gamma\n")
    away.start("out/a.txt")
    assert "1 of 1 steps (100%) done" in away("attach")
    when = f"stat -c %y {made}"
    newer = away.on_machine(when)
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=away.folder).returncode == -signal.SIGKILL
    assert "was not started" in away("status")

    told = away.start("out/a.txt")

    assert "again" in told
    away.wait_for("has ended well")
    assert made.read_text() == "ALPHA\n"
    assert away.on_machine(when) == newer
    away("fetch")
    assert made.read_text() == "GAMMA\n"
    assert "Nothing to be done" in away.dry_run("out/a.txt")


@pytest.mark.slow
def test_what_belongs_to_this_computer_stays_here(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's own profile applies on the machine, but not its region, its AWS profile and ways to
    machines."""
    config = away.folder.parent / "aws-config"
    env = away.cloud.env
    keys = "\n".join(
        f"{name.lower()} = {env[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    config.write_text(f"[profile lab]\n{keys}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    region = env["AWS_DEFAULT_REGION"]
    lines = [f"ec2-region: {region}", "ec2-profile: lab", "ec2-ssh-from: 127.0.0.0/8", "ec2-detach: true"]
    profile = away.folder / "profiles/default/config.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("\n".join([*lines, "printshellcmds: true", ""]))

    told = away.start("--wait")

    assert "tr a-z A-Z <" in told  # printshellcmds
    assert "terminated" in told
    assert (away.folder / "out/joined.txt").read_text() == "ALPHA\nBETA\n"
    assert profile.read_text().startswith("ec2-region")


def _alive(cloud: EmbeddedCloud) -> list[str]:
    return [name for name, state in cloud.machine_states().items() if state in ("pending", "running")]


def _said(away: Away, command: str) -> str:
    """What a command that fails says."""
    away._capfd.readouterr()
    assert main(["away", command, "--directory", str(away.folder)]) == 1
    return away._capfd.readouterr().err
