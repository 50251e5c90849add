"""Starts an embedded cloud as a child process, and ends it: what tests and `--ec2-cloud local` use."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .client import Faults
from .environment import CONTROL_TOKEN, UNSET

_UP_WITHIN_S = 60.0
_DOWN_WITHIN_S = 20.0
_PACKAGE_ROOT = Path(__file__).parents[2]


class CloudStartError(Exception):
    """The cloud did not start; the text has what it said."""


class EmbeddedCloud:
    """`with EmbeddedCloud() as cloud:` -- EC2 on this computer for as long as the block runs.

    Nothing of it outlives this process, however it ends. Not for use before the block or after it.
    """

    def __init__(
        self,
        *,
        state_dir: Path | None = None,
        cache_dir: Path | None = None,
        pending_s: float | None = None,
        boot_s: float | None = None,
        software_s: float | None = None,
        ssh_port: int | None = None,
        disk_mib: int | None = None,
        plain: bool = False,
        policy: Path | None = None,
    ) -> None:
        """`boot_s` is how long machines boot, `software_s` by how much a machine's first installation of
        packages is longer than here; `policy` is a file with an IAM policy: what it does not allow is
        refused as AWS refuses it.
        """
        options = {
            "--state-dir": state_dir,
            "--cache-dir": cache_dir,
            "--pending": pending_s,
            "--boot": boot_s,
            "--software": software_s,
            "--ssh-port": ssh_port,
            "--disk-mib": disk_mib,
            "--policy": policy,
        }
        self._arguments = [f"{name}={value}" for name, value in options.items() if value is not None]
        if plain:
            self._arguments.append("--plain")
        self._process: subprocess.Popen[bytes] | None = None
        self.env: dict[str, str] = {}
        """Variables for whoever is to use the cloud; those in `unset` must be absent."""
        self.unset: tuple[str, ...] = UNSET

    def __enter__(self) -> EmbeddedCloud:
        command = [
            sys.executable,
            "-m",
            __package__,
            "serve",
            "--print-env",
            "--parent-pipe",
            *self._arguments,
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _python_path()},
            # Ctrl-C is for us to act upon: machines are ended in order first.
            start_new_session=True,
        )
        try:
            self.env = _read_environment(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the cloud and every machine of it. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_DOWN_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    @property
    def pid(self) -> int:
        """The cloud's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def endpoint_url(self) -> str:
        return self.env["AWS_ENDPOINT_URL"]

    @property
    def ssh_port(self) -> int:
        """Where the machines' sshd listens."""
        return int(self.env.get("SNAKEMAKE_EC2_SSH_PORT", "22"))

    @property
    def faults(self) -> Faults:
        """Makes the cloud fail."""
        return Faults(self.endpoint_url, self.env[CONTROL_TOKEN])

    def allow(self, policy: str | None) -> None:
        """From now on calls need the permissions of an IAM policy, a JSON text; None: all are allowed."""
        self.faults.request("PUT", "policy", {"policy": policy})

    def state(self) -> dict[str, Any]:
        """Everything about the cloud and its instances, terminated ones included: see `control`."""
        state: dict[str, Any] = self.faults.request("GET", "state")
        return state

    def instances(self) -> list[dict[str, Any]]:
        """Every instance: id, type, zone, market, address, state, pid, connections."""
        instances: list[dict[str, Any]] = self.state()["instances"]
        return instances

    def machine_states(self) -> dict[str, str]:
        """Instance id → EC2's name for its state, terminated ones included."""
        return {instance["id"]: instance["state"] for instance in self.instances()}

    def calls(self, action: str | None = None) -> list[dict[str, Any]]:
        """The API calls so far (of one action): time, service, action, params, access_key, status,
        and the error's code where the cloud itself, and not moto, refused."""
        query = "" if action is None else f"?action={action}"
        calls: list[dict[str, Any]] = self.faults.request("GET", f"calls{query}")
        return calls

    def forget_calls(self) -> None:
        self.faults.request("DELETE", "calls")


def _python_path() -> str:
    """Lets the child import this package wherever this one was imported from."""
    return os.pathsep.join(filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))


def _read_environment(process: subprocess.Popen[bytes]) -> dict[str, str]:
    """What the cloud prints when it serves. Raises CloudStartError."""
    assert process.stdout is not None
    deadline = time.monotonic() + _UP_WITHIN_S
    text = b""
    while b"AWS_EC2_METADATA_DISABLED" not in text or not text.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(process.stdout.fileno(), 65536) if readable else b""
        if not data:
            raise CloudStartError(f"the embedded cloud did not start: {text.decode(errors='replace')}")
        text += data
    return _parse(text.decode())


def _parse(text: str) -> dict[str, str]:
    words = (shlex.split(line) for line in text.splitlines())
    pairs = (line[1].partition("=") for line in words if line[:1] == ["export"])
    return {name: value for name, _, value in pairs}
