"""Snakemake on light hosts, in this process, and what it took. For `benchmarks.light_run`."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from snakemake.cli import main as snakemake

from benchmarks.light import Costs, light_hosts
from snakemake_executor_ec2.ssh.host import SshHost

_LOOK_S = 1.0


class Watch(threading.Thread):
    """The most that this process has had of anything, and its CPU while most jobs ran."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most: dict[str, float] = {"threads": 0, "files": 0, "followed": 0}
        self.idle: tuple[float, float] = (0.0, 0.0)
        """The longest time in which as many jobs as ever ran: seconds, and seconds of CPU."""
        self._followed = 0
        self._lines = SshHost.lines

    def lines(self, host: SshHost, command: str, **options: Any) -> Iterator[bytes]:
        """`SshHost.lines`, counted."""
        self._followed += 1
        try:
            yield from self._lines(host, command, **options)
        finally:
            self._followed -= 1

    def run(self) -> None:
        began, cpu = time.monotonic(), time.process_time()
        while True:
            time.sleep(_LOOK_S)
            now = {
                "threads": threading.active_count(),
                "files": len(list(Path("/proc/self/fd").iterdir())),
                "followed": self._followed,
            }
            if self._followed != self.most["followed"]:
                began, cpu = time.monotonic(), time.process_time()
            if self._followed > self.most["followed"]:
                self.idle = 0.0, 0.0
            if (seconds := time.monotonic() - began) > self.idle[0] and self._followed:
                self.idle = seconds, time.process_time() - cpu
            self.most = {name: max(self.most[name], now[name]) for name in now}


def main() -> None:
    """Snakemake's `main`, after a JSON object of costs in seconds, a file for what is measured, and a JSON
    object about a server or `null`."""
    began = time.monotonic()
    watch = Watch()
    watch.start()
    with (
        light_hosts(Costs(**json.loads(sys.argv[1])), json.loads(sys.argv[3])) as api,
        patch.object(
            SshHost, "lines", lambda host, command, **options: watch.lines(host, command, **options)
        ),
    ):
        try:
            snakemake(sys.argv[4:])
            status: Any = 0
        except SystemExit as end:
            status = end.code
    used = resource.getrusage(resource.RUSAGE_SELF)
    operations = [name for name, _, _ in api.calls]
    launches = sorted(at - began for name, _, at in api.calls if name == "run_instances")
    measured = {
        "seconds": time.monotonic() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "rss_mib": used.ru_maxrss / 1024,
        "machines": len(api.machines),
        "left": len(api.alive),
        "calls": {name: operations.count(name) for name in sorted({*operations})},
        "launching_s": launches[-1] - launches[0] if launches else 0.0,
        **watch.most,
        "idle_s": watch.idle[0],
        "idle_cpu_s": watch.idle[1],
    }
    Path(sys.argv[2]).write_text(json.dumps(measured))
    sys.exit(status)


if __name__ == "__main__":
    main()
