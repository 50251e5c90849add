"""`snakemake-ec2 ps | logs -f | ssh | browse | kill | stop` beside a run on `--ec2-cloud local`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.environment import SSH_PORT, UNSET
from tests.workflow.killing import Watched, wait_for

COMMAND = str(Path(sys.executable).with_name("snakemake-ec2"))
SNAKEFILE = """
rule one:
    output: 'one.txt'
    shell: 'echo at work; gcc --version; until test -e /tmp/go; do sleep 0.2; done; echo > {output}'
"""
TOOLS = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "sftp", "gcc"))), reason="OpenSSH or gcc is not installed"
)


class Terminal:
    """A second terminal in a folder, which knows of no cloud."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ours = {*UNSET, SSH_PORT, "PYTHONPATH"}
        kept = {name: value for name, value in os.environ.items() if name not in ours and "AWS" not in name}
        self.env = {**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        self.env["AWS_EC2_METADATA_DISABLED"] = "true"

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """What `snakemake-ec2` has printed."""
        process = self.start(COMMAND, *arguments)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == status, output
        return output


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    (tmp_path / "work").mkdir()
    return Terminal(tmp_path / "work")


@TOOLS
def test_commands_find_the_cloud_of_the_folder_s_rehearsal(terminal: Terminal) -> None:
    """Without a word about it, and without an AWS account; once the run has ended, so have its machines."""
    (terminal.folder / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--executor", "ec2", "--ec2-cloud", "local", "-j", "2"]
    run = Watched(terminal.start(*command, "--ec2-ssh-proxy", "ssh -W %h:%p nowhere"))
    run.until("running")
    listed = terminal("ps")
    assert "is a rehearsal" in listed
    (row,) = [line for line in listed.splitlines() if line.startswith("i-")]
    machine, run_id = row.split()[0], row.split()[-1]
    assert "rule one  run" in row
    following = terminal.start(COMMAND, "logs", "-f", "one")
    assert terminal("ssh", machine, "--", "id", "-un") == "ec2-user\n"

    told = terminal("browse")
    assert f"{machine}, rule one" in told
    (sftp,) = [line.strip() for line in told.splitlines() if line.strip().startswith("sftp ")]
    seen = subprocess.run(
        [*shlex.split(sftp)[:1], "-b", "-", *shlex.split(sftp)[1:]],
        input=f"ls -a {terminal.folder}\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "Snakefile" in seen.stdout
    folder = terminal.folder / ".snakemake" / "ec2" / "browse"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"key", "key.ppk", "known_hosts", "ssh_config"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}

    assert "starts the job again on another machine" in terminal("kill", machine)
    wait_for(lambda: machine not in terminal("ps") and "  run  " in terminal("ps"))
    terminal("ssh", "rule one", "--", "touch", "/tmp/go")
    assert run.wait() == 0, run.output
    assert "embedded cloud's own jump host" in run.output
    assert "gcc (rule one)" in run.output
    assert "`sudo dnf -y install gcc`" in run.output
    assert following.communicate(timeout=30)[0].startswith(f"rule one, run {run_id}:\nat work\n")
    assert "gone" in terminal("ssh", machine, status=1) or "ended" in terminal("ssh", machine, status=1)
    assert not any(folder.iterdir()), "copies of the key went with it"


@TOOLS
def test_a_strict_rehearsal_fails_at_its_end(terminal: Terminal) -> None:
    """If a job has used a program that EC2's machines lack, and only then; what was made is there."""
    strict = [sys.executable, "-m", "snakemake", "--executor", "ec2", "--ec2-cloud", "local", "-j", "2"]
    strict.append("--ec2-strict")
    (terminal.folder / "Snakefile").write_text(
        "rule two:\n    input: 'one.txt'\n    output: 'two.txt'\n    shell: 'gcc --version > {output}'\n"
        "rule one:\n    output: 'one.txt'\n    shell: 'date > {output}'\n"
    )
    run = Watched(terminal.start(*strict, "one"))
    assert run.wait() == 0, run.output
    run = Watched(terminal.start(*strict))
    assert run.wait() == 1, run.output
    assert "gcc (rule two)" in run.output
    assert "This run fails because of --ec2-strict" in run.output
    assert (terminal.folder / "two.txt").read_text()


@pytest.mark.slow
def test_stop_ends_a_rehearsal(terminal: Terminal) -> None:
    """It tells the run to end, and asks a cloud that has gone with it nothing more."""
    (terminal.folder / "Snakefile").write_text(SNAKEFILE.replace("gcc --version; ", ""))
    command = [sys.executable, "-m", "snakemake", "--executor", "ec2", "--ec2-cloud", "local", "-j", "2"]
    run = Watched(terminal.start(*command))
    run.until("running")
    began = time.monotonic()
    told = terminal("stop", "--yes")
    assert "ending run" in told
    assert "could not" not in told
    assert time.monotonic() - began < 60
    assert run.wait() != 0
