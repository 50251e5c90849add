"""The way to one machine over ssh, for OpenSSH and other programs: address, key, host keys, proxy."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.cli.common import (
    attempt_named,
    folder_journal,
    inventory_with,
    is_rehearsing,
    to_stderr,
)
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.ssh.proxy import proxy_command
from snakemake_executor_ec2.timing import SystemClock


@dataclass(frozen=True, kw_only=True)
class Way:
    """A machine that is there, and how it is reached."""

    machine: str
    label: str
    """Of the job that it has, or had last."""
    address: str
    port: int
    user: str
    login: KeyPair = field(repr=False)
    host_keys: tuple[str, ...]
    """Those that it may present; it has one of each kind."""
    proxy: tuple[str, ...]
    """The proxy command for this machine, as words; empty if there is none."""
    run: str
    folder: str | None
    """The working folder there; None if it is not known yet."""

    def ssh_config(self, key: Path, known_hosts: Path) -> list[tuple[str, str]]:
        """Keywords of `ssh_config` and their values, quoted; `known_hosts` has the line of `known`."""
        pairs = [
            ("HostName", self.address),
            ("Port", str(self.port)),
            ("User", self.user),
            ("IdentityFile", quoted(key)),
            ("IdentitiesOnly", "yes"),
            ("UserKnownHostsFile", quoted(known_hosts)),
            ("HostKeyAlias", self.machine),
            ("StrictHostKeyChecking", "yes"),
            ("ConnectTimeout", "30"),
        ]
        # OpenSSH has a shell read it, and fills placeholders: both have been done.
        words = shlex.join(self.proxy).replace("%", "%%")
        return [*pairs, ("ProxyCommand", words)] if self.proxy else pairs

    @property
    def known(self) -> str:
        """The text of a `known_hosts` file."""
        return "".join(f"{self.machine} {public}\n" for public in self.host_keys)


def quoted(path: Path) -> str:
    """A path as `ssh_config` wants it."""
    return f'"{path}"' if " " in str(path) else str(path)


def way_to(options: argparse.Namespace, name: str) -> Way:
    """Of the newest attempt that a name means. Raises ConfigurationError if its machine cannot be reached."""
    with folder_journal(options) as journal:
        attempt = attempt_named(journal, name, options)
        assert journal is not None
        run = journal.run(attempt.on.run)
        rehearsing = is_rehearsing(journal, run)
        inventory = inventory_with(options, run, journal)
    machine_id = attempt.machine.id if attempt.machine else ""
    found = {each.id: each for each in inventory.machines()}.get(machine_id)
    if found is None:
        raise ConfigurationError(f"{attempt.label}: its machine {machine_id or 'was never launched'} is gone")
    if run.login is None:
        raise ConfigurationError(f"the ssh key of run {run.id} was erased when its last machine had ended")
    address = found.private_address if run.ssh_to == "private" else found.address
    proxy = proxy_command(run.ssh_proxy)
    if proxy is None and not rehearsing:
        _allow_ssh(options, run, address)
    words = (
        proxy.filled(address=address, name=machine_id, port=run.ssh_port, user=run.ssh_user) if proxy else []
    )
    return Way(
        machine=machine_id,
        label=attempt.label,
        address=address,
        port=run.ssh_port,
        user=run.ssh_user,
        login=run.login,
        host_keys=attempt.on.host_keys,
        proxy=tuple(words),
        run=run.id,
        folder=_folder(attempt),
    )


def write_private(path: Path, text: str) -> None:
    """A file that only its owner may read, from its first moment on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="") as file:
        file.write(text)


def _folder(attempt: Attempt) -> str | None:
    state = attempt.saved_state
    return str(state["workdir"]) if state and "workdir" in state else None


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
