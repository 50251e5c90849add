"""The cloud as a process: how it starts, what it prints, and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.local.cloud import CloudStartError, EmbeddedCloud
from snakemake_executor_ec2.local.environment import UNSET

from .conftest import Rig, processes_with, wait_for

SERVE = [sys.executable, "-m", "snakemake_executor_ec2.local", "serve"]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _keep_busy(cloud: EmbeddedCloud, folder: Path) -> tuple[str, list[int]]:
    """Two machines with a detached process each: (a text of its command line, the cloud's and hosts' ids)."""
    rig = Rig(cloud, folder)
    mark = f"600.{os.getpid()}{time.monotonic_ns()}"
    for launched in (rig.launch(), rig.launch()):
        launched.run(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &")
        launched.close()
    wait_for(lambda: len(processes_with(f"sleep {mark}")) == 2)
    return mark, [cloud.pid, *(each["pid"] for each in cloud.instances())]


def test_nothing_outlives_the_cloud(tmp_path: Path) -> None:
    """When the block ends, every host, every process on it and the cloud's folder are gone."""
    state_dir = tmp_path / "state"
    with EmbeddedCloud(state_dir=state_dir, cache_dir=tmp_path / "cache") as cloud:
        mark, pids = _keep_busy(cloud, tmp_path)
    assert not any(_alive(pid) for pid in pids)
    assert not processes_with(f"sleep {mark}")
    assert not state_dir.exists()


def test_nothing_outlives_a_cloud_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL ends every host too; the folder that is left goes when the next cloud starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with EmbeddedCloud(cache_dir=tmp_path / "cache") as cloud:
        mark, pids = _keep_busy(cloud, tmp_path)
        os.kill(cloud.pid, signal.SIGKILL)
        wait_for(lambda: not any(_alive(pid) for pid in pids))
        wait_for(lambda: not processes_with(f"sleep {mark}"))
    (left,) = tmp_path.glob("snakemake-ec2-cloud-*")
    with EmbeddedCloud(cache_dir=tmp_path / "cache"):
        assert not left.exists()
        assert len(list(tmp_path.glob("snakemake-ec2-cloud-*"))) == 1


def test_cloud_ends_with_its_maker(tmp_path: Path) -> None:
    """A program that is killed while it uses an EmbeddedCloud takes the cloud with it."""
    program = (
        "import sys, time; from snakemake_executor_ec2.local.cloud import EmbeddedCloud; "
        "from pathlib import Path; cloud = EmbeddedCloud(cache_dir=Path(sys.argv[1])).__enter__(); "
        "print(cloud.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        pid = int(user.stdout.readline())
        user.kill()
    wait_for(lambda: not _alive(pid))


def test_variables_are_printed_for_a_shell(tmp_path: Path) -> None:
    """What is printed can be evaluated, points at the cloud only, and takes other accounts away."""
    with subprocess.Popen(
        [*SERVE, "--print-env", "--cache-dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as cloud:
        assert cloud.stdout is not None
        lines = []
        for line in cloud.stdout:
            lines.append(line)
            if "METADATA_DISABLED" in line:
                break
        shell = subprocess.run(
            ["sh", "-c", "".join(lines) + "env"],
            env={"AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "t", "PATH": os.environ["PATH"]},
            check=True,
            capture_output=True,
            text=True,
        )
        cloud.send_signal(signal.SIGINT)
        assert cloud.wait(20) == 0
    found = dict(line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith("AWS_"))
    assert not set(found) & set(UNSET)
    assert found["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "us-east-1"
    assert found["AWS_CONFIG_FILE"] == found["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull


def test_failure_to_start_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that is there already is not taken over."""
    with pytest.raises(CloudStartError), EmbeddedCloud(state_dir=tmp_path):
        pass
    assert "FileExistsError" in capfd.readouterr().err


def test_plain_hosts_where_there_are_no_namespaces(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without namespaces machines boot, run, take files and power off, and it is said what is missing."""
    with EmbeddedCloud(plain=True, cache_dir=tmp_path / "cache", state_dir=tmp_path / "state") as cloud:
        assert "undeclared input is not missed" in capfd.readouterr().err
        assert not cloud.state()["isolated"]
        rig = Rig(cloud, tmp_path)
        launched = rig.launch({"bootcmd": ["echo booted > $HOME/boot"], "runcmd": ["echo ran > $HOME/run"]})
        home = launched.run("echo $HOME").strip()
        assert home == f"{tmp_path}/state/hosts/{launched.id}/root/home/ec2-user"
        launched.run("cloud-init status --wait")
        assert launched.run("sudo cat ../../root/boot ../../root/run").split() == ["booted", "ran"]
        launched.run("cat > file", data=b"data")
        sftp = launched.clients[0].open_sftp()
        assert sftp.stat("file").st_size == 4
        sftp.close()
        mark = f"700.{time.monotonic_ns()}"
        launched.run(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &")
        launched.run("sudo systemd-run --on-active=600 sleep 1")
        _ends_completely(launched, mark)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="Linux has namespaces")
def test_a_system_without_namespaces_is_told_once(tmp_path: Path) -> None:
    """Where the kernel gives an ordinary user none, hosts are plain processes, after one sentence."""
    limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec"
    nobody = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{limit} "$@"', "sh"]
    command = [*nobody, *SERVE, "--parent-pipe", f"--cache-dir={tmp_path}/cache"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(8 + len(UNSET))]
        process.stdin.close()
        errors = process.stderr.read() if process.stderr else ""
    if "unshare: " in errors:
        pytest.skip(errors)
    assert errors.count("embedded cloud: this system allows no namespaces") == errors.count("namespaces") == 1
    assert any("AWS_ENDPOINT_URL" in line for line in lines)


def _ends_completely(launched: Any, mark: str) -> None:
    launched.clients[0].exec_command("sudo shutdown -h now")
    launched.wait_until("terminated")
    wait_for(lambda: not processes_with(f"sleep {mark}"))
    launched.close()
