"""How often large files leave this computer: `python -m benchmarks.peers`.

Twenty jobs on twenty machines that read one file of 200 MB; a chain of two jobs on two machines, with a file
of that size between them; the first one again while every transfer between machines is broken off. Each on
an embedded cloud, with a machine for each job. Printed are the bytes that machines have received from this
computer, as their sshd has counted them, also as multiples of the file's size. Fails if it left this computer
more than 1.1 times, or at all in the chain, or if results differ. The short form has four machines and small
files.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import sizes
from snakemake_executor_ec2.local.client import ControlError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

_SHARED = """rule all:
    input: expand('{{n}}.txt', n=range({machines}))
rule one:
    input: 'large'
    output: '{{n}}.txt'
    shell: 'sha256sum < {{input}} > {{output}}'
"""
_CHAIN = """rule second:
    input: 'large'
    output: '0.txt'
    shell: 'sha256sum < {{input}} > {{output}}'
rule first:
    output: 'large'
    shell: 'head -c {size} /dev/urandom > {{output}}'
"""
_BREAKS = "setsid sh -c 'while sleep 0.05; do pkill -f \"[a]gent.pyz serve\"; done' > /dev/null 2>&1 &"


class Sent(NamedTuple):
    """What one run has taken."""

    seconds: float
    machines: int
    bytes: int
    passed: int
    """Files that went from machine to machine."""


def main() -> None:
    """Print a line for each scene."""
    options = sizes(__doc__, machines=(20, 4), mb=(200, 12))
    size, machines = options.mb * 10**6, options.machines
    scenes: list[tuple[str, str, bool, float]] = [
        (f"{machines} jobs that share it", _SHARED.format(machines=machines), False, 1.1),
        ("a chain of two jobs", _CHAIN.format(size=size), False, 0.1),
        ("shared, and broken off", _SHARED.format(machines=min(machines, 5)), True, float("inf")),
    ]
    with TemporaryDirectory() as name, EmbeddedCloud(cache_dir=Path(name) / "cache") as cloud:
        for number, (title, snakefile, broken, most) in enumerate(scenes):
            folder = Path(name) / str(number)
            folder.mkdir()
            if "rule first" not in snakefile:
                (folder / "large").write_bytes(os.urandom(size))
            sent = _run(cloud, folder, snakefile, machines, broken=broken)
            times = sent.bytes / size
            print(
                f"{title}: {sent.seconds:.0f} s, {sent.machines} machines, {sent.bytes / 1e6:.1f} MB sent, "
                f"{times:.2f} times its {options.mb} MB; {sent.passed} times from machine to machine",
                flush=True,
            )
            if times > most:
                sys.exit(f"more than {most} times")


def _run(cloud: EmbeddedCloud, folder: Path, snakefile: str, jobs: int, *, broken: bool) -> Sent:
    before = {each["id"] for each in cloud.instances()}
    over = threading.Event()
    thread = threading.Thread(target=_break_off, args=(cloud, before, over))
    if broken:
        thread.start()
    began = time.monotonic()
    try:
        done = WorkflowRunner(cloud, folder)(
            {"Snakefile": snakefile}, "--ec2-reuse", "never", jobs=jobs, timeout_s=1800
        )
    finally:
        over.set()
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(done.output)
    expected = f"{hashlib.sha256((folder / 'large').read_bytes()).hexdigest()}  -\n"
    if {path.read_text() for path in folder.glob("*.txt")} != {expected}:
        sys.exit("results differ")
    new = [each for each in cloud.instances() if each["id"] not in before]
    return Sent(
        seconds=seconds,
        machines=len(new),
        bytes=sum(each["received_bytes"] for each in new),
        passed=done.output.count("got 1 large file"),
    )


def _break_off(cloud: EmbeddedCloud, before: set[str], over: threading.Event) -> None:
    """End on every machine, again and again, what serves files."""
    done = set(before)
    while not over.wait(0.1):
        for each in cloud.instances():
            if each["id"] not in done and each["state"] == "running":
                with suppress(ControlError):
                    cloud.faults.shell(each["id"], _BREAKS)
                    done.add(each["id"])


if __name__ == "__main__":
    main()
