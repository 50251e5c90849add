"""`snakemake-ec2 ssh NAME`: log in to a machine of this folder's runs, with the run's key."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.cli.common import attempt_named, folder_journal, inventory_with, to_stderr
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.records.rows import RunRecord
from snakemake_executor_ec2.timing import SystemClock


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a machine's id, a job's key, or a part of `rule align (sample=A)`")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="command to run on the machine; default: a shell"
    )


def main(options: argparse.Namespace) -> int:
    """Run OpenSSH's client; its exit status."""
    with folder_journal(options) as journal:
        attempt = attempt_named(journal, options.name)
        assert journal is not None
        run = journal.run(attempt.on.run)
    machine_id = attempt.machine.id if attempt.machine else ""
    found = {each.id: each for each in inventory_with(options, run).machines()}.get(machine_id)
    if found is None:
        raise ConfigurationError(f"{attempt.label}: its machine {machine_id or 'was never launched'} is gone")
    if run.login is None:
        raise ConfigurationError(f"the ssh key of run {run.id} was erased when its last machine had ended")
    _allow_ssh(options, run, found.address)
    # Ours or not, a `--` ends the options: what follows is run there.
    command = options.command[options.command[:1] == ["--"] :]
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-") as folder:  # 0700
        key, known = Path(folder, "key"), Path(folder, "known_hosts")
        key.touch(mode=0o600)
        key.write_text(run.login.private)
        known.write_text("".join(f"machine {public}\n" for public in attempt.on.host_keys))
        arguments = [
            "ssh", "-i", str(key), "-p", str(run.ssh_port), "-l", run.ssh_user,
            "-o", f"UserKnownHostsFile={known}", "-o", "HostKeyAlias=machine",
            "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-F", os.devnull,
            "-o", "ConnectTimeout=30",
            found.address, "--", *command,
        ]  # fmt: skip
        try:
            return subprocess.run(arguments, check=False).returncode
        except FileNotFoundError as error:
            raise ConfigurationError(
                "OpenSSH's client (the program ssh) is not installed on your computer"
            ) from error


def _allow_ssh(options: argparse.Namespace, run: RunRecord, address: str) -> None:
    """Open the run's security group to this computer's present address: its run may have had another."""
    cloud = Ec2Cloud(
        run_id=run.id,
        region=options.region or run.region,
        profile=options.profile,
        ssh_port=run.ssh_port,
        clock=SystemClock(),
        warn=to_stderr,
    )
    try:
        cloud.take_over()
        cloud.allow_ssh_from_here(address)
    except Ec2ExecutorError as error:
        to_stderr(f"could not make sure that the machine accepts ssh from your network: {error.message}")
