"""`start`, `status`, and the supervisor: the process that runs one job and watches it.

The supervisor lives in a session of its own, so neither the ssh connection nor the controller
matters to it. It writes `events.jsonl`, one JSON object per line, each with `t` (this
machine's clock) and `type`:

    started      pid
    sample       mem_mib, cpu_seconds, disk_mib: now and then, and when they changed much
    spot_notice  action, time: EC2 wants the machine back
    finished     exit_code, seconds, peak_mem_mib, cpu_seconds, peak_disk_mib, failure, evidence
    interrupted  reason: the machine is going down; the job did not fail by itself

What the job prints goes to `output.log` directly. `disk_mib` is what the working directory's
file system has grown by since the job began.
"""

from __future__ import annotations

import json
import math
import os
import select
import shlex
import signal
import subprocess
import time
from typing import Any

from . import clean, group, late, lease, procs, unwatched
from .event_log import EventLog, last_event
from .evidence import Facts, classify, own_exit_code
from .spot import SpotNotice
from .standins import StandIns, keep_from_reading
from .state import (
    AgentError,
    command_line,
    job_dir,
    leave_standard_streams,
    read_request,
    say,
    spawn_detached,
    try_lock,
)

_MIB = 1 << 20
_TAIL = 64 * 1024
_LONG_COMMAND = 100_000  # one argument may have 128 KiB
_DECISION = "decision.json"
_MAX_SENTENCE = 4096
_GRACE_S = 10.0
_SAMPLE_S = 3.0
_SPOT_S = 5.0
_REPORT_S = 30.0
ENDINGS = ("finished", "interrupted")
"""The types of the events after which nothing comes."""


# --- commands -----------------------------------------------------------------------------


def start() -> int:
    """`start`: run a job, once per key -> {"state": "running", "pid": …, "already": false}

    The request: key, command, decision (see `runner/run.py`), direct (see `group.py`), cwd, env, unset,
    umask, label, path_prepend, runtime_s, lease_s (left out: the lease that is), poweroff (for tests), note
    (true: note what is there, for `clean`). `env` stays in memory. A job that runs or has ended is not
    started again: "already" is true and "state" is as `status` says.
    """
    request = read_request()
    key = str(request.get("key", ""))
    folder = job_dir(key)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if "lease_s" in request:
        lease.ensure_guard(request["lease_s"], request.get("poweroff"))
    with try_lock(os.path.join(folder, "start.lock"), wait=True):  # type: ignore[union-attr]
        state = _state(folder)
        if state["state"] != "unknown":
            say({**state, "already": True})
            return 0
        if request.get("note"):
            clean.note(key)
        label = " ".join(str(request.get("label") or key).split())
        answer = spawn_detached(["supervisor", label], request, os.path.join(folder, "supervisor.log"))
    if "error" in answer:
        raise AgentError(str(answer["error"]))
    say({**answer, "already": False})
    return 0


def status(key: str | None) -> int:
    """`status [KEY]` -> {"state", "event", "lease_s", "lease_left_s"}

    state: `unknown`, `running`, `finished`, `interrupted`, or `lost` if the machine went down with it.
    """
    answer: dict[str, Any] = _state(job_dir(key)) if key else {}
    left = lease.remaining()
    say({**answer, "lease_s": lease.length(), "lease_left_s": None if left is None else round(left, 1)})
    return 0


def _state(folder: str) -> dict[str, Any]:
    event = last_event(os.path.join(folder, "events.jsonl"))
    if event is None:
        return {"state": "unknown"}
    if event.get("type") in ENDINGS:
        return {"state": event["type"], "event": event}
    if is_alive(folder):
        return {"state": "running"}
    ended = unwatched.settle(folder)  # or it has ended just now
    return {"state": "lost"} if ended is None else {"state": ended["type"], "event": ended}


def is_alive(folder: str) -> bool:
    """Whether the job's supervisor lives: it holds a lock."""
    lock = try_lock(os.path.join(folder, "supervisor.lock"), shared=True)
    if lock is None:
        return True
    lock.close()
    return False


# --- the supervisor ---------------------------------------------------------------------------


def supervisor() -> int:
    """The process that `start` leaves behind; the job's environment comes on standard input."""
    request = read_request()
    folder = job_dir(str(request["key"]))
    # only `is_alive` may hold it, for a moment: `start` lets no second supervisor begin
    with try_lock(os.path.join(folder, "supervisor.lock"), wait=True):  # type: ignore[union-attr]
        try:
            job = _Job(request, folder)
        except (OSError, AgentError) as error:
            say({"error": f"the job could not be started: {error}"})
            return 1
        say({"state": "running", "pid": job.process.pid})
        leave_standard_streams()
        job.watch()
    return 0


class _Job:
    """A running job, and what was seen of it."""

    def __init__(self, request: dict[str, Any], folder: str) -> None:
        self.folder = folder
        self.cwd = str(request["cwd"])
        self.runtime_s: float | None = request.get("runtime_s")
        self.poweroff: str | None = request.get("poweroff")
        self.own: group.Own | None = None
        unwatched.note_boot(folder)
        procs.adopt_orphans()
        self.events = EventLog(os.path.join(folder, "events.jsonl"))
        self.wake = _wake_on(signal.SIGCHLD, signal.SIGTERM)
        self.began = time.monotonic()
        self.oom_kills = procs.oom_kills()
        self.disk_used, self.least_free, self.disk_size = procs.disk(self.cwd)
        self.peak_mem_mib = 0
        self.cpu_seconds = 0.0
        self.peak_disk_mib = 0
        self.reported: tuple[float, int, int] = (self.began - _REPORT_S + _SAMPLE_S, 0, 0)
        self.terminated = False
        self.over_runtime = False
        self.kill_at: float | None = None
        self.process = self._spawn(request)
        self.events.write("started", pid=self.process.pid)

    def _spawn(self, request: dict[str, Any]) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **{str(name): str(value) for name, value in request.get("env", {}).items()},
        }
        for name in request.get("unset", []):
            environment.pop(str(name), None)
        prepended = [str(path) for path in request.get("path_prepend", [])]
        environment["PATH"] = os.pathsep.join([*prepended, environment.get("PATH", os.defpath)])
        os.umask(int(request.get("umask", 0o022)) & 0o077)
        if not os.path.isdir(self.cwd):
            raise AgentError(f"there is no directory {self.cwd}")
        if request.get("direct") is not None:
            self.own = group.own_command(request["direct"], self.cwd, environment, self.folder)
            arguments, environment = self.own.arguments, self.own.environment
        else:
            arguments = self._arguments(self._command(request))
        with open(os.path.join(self.folder, "output.log"), "ab") as output:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env=environment,
                start_new_session=True,
                preexec_fn=_become_the_job,  # safe: one thread only
            )
        if self.own:
            self.own.started(process.pid)
        return process

    def _arguments(self, command: str) -> list[str]:
        if len(command) <= _LONG_COMMAND:
            return ["bash", "-c", command]
        script = os.path.join(self.folder, "command.sh")
        with open(script, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(command)
        return ["bash", script]

    def _command(self, request: dict[str, Any]) -> str:
        """What bash runs: the given command; with a decision, after it Snakemake, which is held to that."""
        command = str(request["command"])
        if request.get("decision") is None:
            return command
        path = os.path.join(self.folder, _DECISION)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(request["decision"], file)
        return f"{command} {shlex.join(command_line('run', path, python='python'))}".strip()

    def watch(self) -> None:
        """Until the job has ended: sample, look for a spot notice, keep to its limits."""
        spot = SpotNotice()
        sample_at, spot_at = self.began, self.began + 1
        told = False
        while True:
            measure_at = self.own.look() if self.own else math.inf
            now = time.monotonic()
            if now >= sample_at:
                self._sample()
                cost = time.monotonic() - now
                sample_at = now + max(min(_SAMPLE_S, (now - self.began) / 4 + 0.2), 200 * cost)
            if now >= spot_at and not told and not spot.is_over:
                if notice := spot.poll():
                    self.events.write("spot_notice", **notice)
                    told = True
                spot_at = now + _SPOT_S
            self._keep_limits(now)
            self._sleep(min(sample_at, measure_at))
            if ended := self._reap():
                break
        wait_status, usage = ended
        self.process.returncode = exit_code = _exit_code(wait_status)
        if self.own and (wrong := self.own.ended(exit_code)):
            exit_code = 1
            with open(os.path.join(self.folder, "output.log"), "a", encoding="utf-8") as output:
                output.write(f"{wrong}\n")
        procs.end_descendants()  # what it left: it would write on while results are fetched
        self._signal_group(signal.SIGKILL)
        self.peak_mem_mib = max(self.peak_mem_mib, procs.max_rss_mib(usage.ru_maxrss))
        self.cpu_seconds = max(self.cpu_seconds, usage.ru_utime + usage.ru_stime)
        self._finish(exit_code)

    def _reap(self) -> tuple[int, Any] | None:
        """Wait for who has ended: the job's status and usage once it has, and orphans in between."""
        while True:
            pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
            if pid == self.process.pid:
                return wait_status, usage
            if not pid:
                return None

    def _sleep(self, until: float) -> None:
        wake_at = [until]
        if self.kill_at is not None:
            wake_at.append(self.kill_at)
        elif self.runtime_s and not self.over_runtime:
            wake_at.append(max(self.began + self.runtime_s + late.seconds(), time.monotonic() + 0.2))
        ready, _, _ = select.select([self.wake], [], [], max(0.0, min(wake_at) - time.monotonic()))
        if ready and signal.SIGTERM in os.read(self.wake, 4096):
            self.terminated = True

    def _keep_limits(self, now: float) -> None:
        if self.runtime_s and now - self.began >= self.runtime_s + late.seconds() and not self.over_runtime:
            self.over_runtime = True
            self._end(now)
        if self.terminated and self.kill_at is None:
            self._end(now)
        if self.kill_at is not None and now >= self.kill_at:
            self._signal_group(signal.SIGKILL)
            self.kill_at = now + _GRACE_S
        left = lease.remaining()
        if left is not None and left < -30:  # the guard should have done it
            lease.power_off(self.poweroff)

    def _end(self, now: float) -> None:
        self._signal_group(signal.SIGTERM)
        self.kill_at = now + _GRACE_S

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):  # nobody is left (macOS says the latter)
            return

    def _sample(self) -> None:
        now = procs.sample(self.process.pid, self.cwd)
        self.cpu_seconds = max(self.cpu_seconds, now.cpu_seconds)
        self.peak_mem_mib = max(self.peak_mem_mib, now.rss_mib)
        disk_mib = max(0, now.disk_used - self.disk_used) // _MIB if now.disk_used else 0
        self.peak_disk_mib = max(self.peak_disk_mib, disk_mib)
        self.least_free, self.disk_size = now.disk_free, now.disk_size
        reported_at, mem_mib, reported_disk_mib = self.reported
        much = abs(now.rss_mib - mem_mib) > max(64, mem_mib / 10)
        much = much or abs(disk_mib - reported_disk_mib) > max(256, reported_disk_mib / 10)
        if much or time.monotonic() - reported_at >= _REPORT_S:
            self.reported = (time.monotonic(), now.rss_mib, disk_mib)
            self.events.write(
                "sample", mem_mib=now.rss_mib, cpu_seconds=round(self.cpu_seconds, 2), disk_mib=disk_mib
            )

    def _finish(self, exit_code: int) -> None:
        seconds = max(0.0, time.monotonic() - self.began - late.seconds())
        last_free = self.least_free
        self._sample_disk()
        if exit_code and not self.over_runtime and self._interrupted():
            self.events.write("interrupted", reason="the machine is shutting down")
            return
        tail = _tail(os.path.join(self.folder, "output.log"))
        if self.own is None:
            exit_code = own_exit_code(exit_code, tail)
        no_software = late.failure()
        if no_software and not exit_code:
            exit_code = late.FAILED  # `python … || true`: it has computed without what it called
        kills = procs.oom_kills() - self.oom_kills
        failure, evidence = classify(
            Facts(
                exit_code=exit_code,
                over_runtime_s=self.runtime_s if self.over_runtime else None,
                oom_kills=kills,
                oom_line=procs.oom_line() if kills > 0 and exit_code else "",
                least_free=min(last_free, self.least_free),
                disk_size=self.disk_size,
                tail=tail,
                no_software=no_software,
                differs=_text(os.path.join(self.folder, f"{_DECISION}.differs")),
            )
        )
        self.events.write(
            "finished",
            exit_code=exit_code,
            seconds=round(seconds, 3),
            peak_mem_mib=self.peak_mem_mib,
            cpu_seconds=round(self.cpu_seconds, 2),
            peak_disk_mib=self.peak_disk_mib,
            failure=failure,
            evidence=evidence,
        )

    def _sample_disk(self) -> None:
        used, self.least_free, self.disk_size = procs.disk(self.cwd)
        self.peak_disk_mib = max(self.peak_disk_mib, (used - self.disk_used) // _MIB if used else 0)

    def _interrupted(self) -> bool:
        """Whether the system ends us as well as the job: its SIGTERM reaches both at once."""
        if not self.terminated:
            self._sleep(time.monotonic() + 0.3)
        return self.terminated or procs.shutting_down()


def _wake_on(*signals: signal.Signals) -> int:
    """The reading end of a pipe that gets a byte for each of the given signals."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # a handler rather than SIG_IGN, which the job would inherit
    for number in (*signals, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reading


def _become_the_job() -> None:
    """Let stand-ins be what they are for this process, and let the kernel, when it is out of memory,
    choose it and neither sshd nor the supervisor."""
    if StandIns():
        keep_from_reading()
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")
    except OSError:
        return


def _exit_code(wait_status: int) -> int:
    return -os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else os.WEXITSTATUS(wait_status)


def _text(path: str) -> str:
    """The beginning of a small text file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_SENTENCE).strip()
    except OSError:
        return ""


def _tail(path: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        return file.read(_TAIL)
