"""Where the values of `--envvars` and the credentials of storage are while a job runs, and after it."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.buckets import Buckets
from tests.workflow.killing import alive, wait_for

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105 - it opens nothing
PLANTED = "planted-here"
NOTING_BASH = """
printf '#!/bin/bash\\necho "$*" >> /var/tmp/arguments\\nexec /bin/bash "$@"\\n' | sudo tee /usr/local/bin/bash
sudo chmod 755 /usr/local/bin/bash
"""
SNAKEFILE = """
envvars: "SECRET_TOKEN"

rule one:
    input: storage("s3://raw/reads.txt")
    output: "out.txt"
    log: "used.log"
    shell:
        "printf %s $SECRET_TOKEN | sha256sum > {log}; sleep 2; "
        "printf %s-%s planted here > $HOME/planted; exit 3"
"""


def test_no_secret_is_seen_or_left(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """A job has its secrets; no process list, log, user-data nor file here or on the machine has them."""
    buckets = Buckets(ec2_cloud)
    buckets.put("raw", "reads.txt", "one\n")
    ec2_cloud.forget_calls()
    # What bash is started with is often another program's command line a moment later.
    arguments = (
        "--ec2-setup",
        "setup.sh",
        "--ec2-keep-failed",
        "5",
        "--verbose",
        "--printshellcmds",
        "--show-failed-logs",
    )

    with _command_lines() as seen:
        run = run_workflow(
            {"Snakefile": SNAKEFILE, "setup.sh": NOTING_BASH},
            *arguments,
            env={**buckets.credentials, "SECRET_TOKEN": TOKEN},
        )

    assert "exit code 3" in run.output, run.output
    assert hashlib.sha256(TOKEN.encode()).hexdigest() in (run.folder / "used.log").read_text()
    assert any("sleep 2" in line for line in seen), "the job itself was not seen"
    assert not [line for line in seen if TOKEN in line or buckets.secret_key in line]
    assert not [text for text in _told_to_ec2(ec2_cloud) if TOKEN in text or buckets.secret_key in text]
    assert _files_with(run.folder, TOKEN, buckets.secret_key) == []
    assert TOKEN not in run.output
    assert buckets.secret_key not in run.output
    (machine,) = alive(ec2_cloud)
    _, noted = ec2_cloud.faults.shell(machine, "cat /var/tmp/arguments")
    assert "agent.pyz run" in noted
    words = f"-e {TOKEN} -e {buckets.secret_key} -e {PLANTED}"
    # Not among what programs are installed from: hosts share it, and it is large.
    places = f"--exclude-dir=site-packages --exclude-dir=cache /home /root /tmp /var /etc /run '{run.folder}'"
    _, found = ec2_cloud.faults.shell(machine, f"grep -rlF -D skip {words} {places} 2> /dev/null")
    assert found.split() == ["/home/ec2-user/planted"]
    ec2_cloud.faults.shell(machine, "shutdown -h now")
    wait_for(lambda: not alive(ec2_cloud))


@contextmanager
def _command_lines() -> Iterator[set[str]]:
    """The command lines of all processes of this computer, machines included, that were seen in the block."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for process in Path("/proc").iterdir():
                if process.name.isdigit() and int(process.name) != os.getpid():
                    with suppress(OSError):
                        line = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                        seen.add(line.decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _told_to_ec2(cloud: EmbeddedCloud) -> Iterator[str]:
    for call in cloud.calls():
        if call["service"] == "ec2":
            yield str(call["params"])
            yield base64.b64decode(call["params"].get("UserData", "")).decode(errors="replace")


def _files_with(folder: Path, *texts: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if any(text.encode() in path.read_bytes() for text in texts)]
