"""Starts an embedded cloud as a child process, and ends it: what tests and `--ec2-cloud local` use."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from .client import Faults
from .environment import CONTROL_TOKEN, UNSET

_UP_WITHIN_S = 60.0
"""On an idle computer; a busy one gets more, up to `_MOST_BUSY` times as much."""
_MOST_BUSY = 10.0
_KEPT = 4096
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

    def environment(self) -> dict[str, str]:
        """That of a process that is to use the cloud: this one's, but for what the cloud says."""
        inherited = {name: value for name, value in os.environ.items() if name not in self.unset}
        return {**inherited, **self.env}

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
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _python_path()},
            # Ctrl-C is for us to act upon: machines are ended in order first.
            start_new_session=True,
        )
        said = _Said(self._process)
        try:
            self.env = _read_environment(self._process, said)
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


class _Said:
    """Passes on what the cloud says on standard error, and keeps its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._stream = process.stderr
        self._end = b""
        self._thread = threading.Thread(target=self._pass_on, name="embedded cloud", daemon=True)
        self._thread.start()

    def last(self) -> str:
        """The last line of a cloud that has ended."""
        self._thread.join(1.0)
        return next(reversed(self._end.decode(errors="replace").split("\n")[:-1]), "").strip()

    def _pass_on(self) -> None:
        assert self._stream is not None
        with self._stream:
            while data := os.read(self._stream.fileno(), _KEPT):
                self._end = (self._end + data)[-_KEPT:]
                with suppress(OSError):
                    os.write(2, data)


def _read_environment(process: subprocess.Popen[bytes], said: _Said) -> dict[str, str]:
    """What the cloud prints when it serves. Raises CloudStartError."""
    assert process.stdout is not None
    began = time.monotonic()
    text = b""
    while b"AWS_EC2_METADATA_DISABLED" not in text or not text.endswith(b"\n"):
        left_s = began + _UP_WITHIN_S * _business() - time.monotonic()
        readable, _, _ = select.select([process.stdout], [], [], min(max(0.0, left_s), 1.0))
        if readable:
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                raise CloudStartError(_why_ended(process, said))
            text += data
        elif left_s <= 0:
            raise CloudStartError(_why_late(time.monotonic() - began))
    return _parse(text.decode())


def _business() -> float:
    """How many processes wait for each processor of this computer; at least 1."""
    return min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), _MOST_BUSY)


def _why_ended(process: subprocess.Popen[bytes], said: _Said) -> str:
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    why = said.last() or f"its process ended with exit status {process.poll()} and said nothing"
    return f"the embedded cloud did not start: {why.removeprefix('embedded cloud: ')}"


def _why_late(seconds: float) -> str:
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f"the embedded cloud did not start within {seconds:.0f} s: {load:.0f} processes are at work on this "
        f"computer's {processors} processor{'s' * (processors != 1)}; try again when it is less busy"
        if load > processors
        else f"the embedded cloud did not start within {seconds:.0f} s, and this computer is not busy: "
        "`snakemake-ec2 cloud` may show why"
    )


def _parse(text: str) -> dict[str, str]:
    words = (shlex.split(line) for line in text.splitlines())
    pairs = (line[1].partition("=") for line in words if line[:1] == ["export"])
    return {name: value for name, _, value in pairs}
