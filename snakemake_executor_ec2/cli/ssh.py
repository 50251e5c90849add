"""`snakemake-ec2 ssh NAME`: log in to a machine of this folder's runs, with the run's key."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from snakemake_executor_ec2.cli.common import to_stderr
from snakemake_executor_ec2.cli.way import way_to, write_private
from snakemake_executor_ec2.errors import ConfigurationError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", help="a machine's id, or a part of a job's name such as `rule align (sample=A)`"
    )
    command = parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="a command to run on the machine, in your home folder there; default: a shell",
    )
    command.required = False  # Python 3.11 would ask for it


def main(options: argparse.Namespace) -> int:
    """Run OpenSSH's client; its exit status."""
    way = way_to(options, options.name)
    # Ours or not, a `--` ends the options: what follows is run there.
    command = options.command[options.command[:1] == ["--"] :]
    if not command and way.folder:
        to_stderr(f"{way.label} works in {way.folder}")
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-") as folder:  # 0700
        key, known = Path(folder, "key"), Path(folder, "known_hosts")
        write_private(key, way.login.private)
        known.write_text(way.known)
        pairs = [f"{name}={value}" for name, value in way.ssh_config(key, known)]
        words = [word for pair in pairs for word in ("-o", pair)]
        try:
            return subprocess.run(
                ["ssh", "-F", os.devnull, *words, way.machine, "--", *command], check=False
            ).returncode
        except FileNotFoundError as error:
            raise ConfigurationError(
                "OpenSSH's client (the program ssh) is not installed on your computer"
            ) from error
