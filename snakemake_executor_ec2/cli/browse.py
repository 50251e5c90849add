"""`snakemake-ec2 browse [NAME]`: look at a machine's files with sftp, FileZilla, WinSCP or an editor.

Writes what these programs need to `.snakemake/ec2/browse`, readable by you only, and prints how to use it."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from snakemake_executor_ec2.cli.common import folder_journal, inventories_of
from snakemake_executor_ec2.cli.machines import gather
from snakemake_executor_ec2.cli.way import Way, quoted, way_to, write_private
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.records.journal import BROWSE, FOLDER
from snakemake_executor_ec2.ssh.keys import fingerprint
from snakemake_executor_ec2.ssh.putty import ppk

_TUNNEL_PORT = 2222


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        help="a machine's id, or a part of a job's name, `rule align (sample=A)`; default: the only one",
    )


def main(options: argparse.Namespace) -> int:
    """Write the files and print what each program needs."""
    way = way_to(options, options.name or _only_machine(options))
    folder = (options.directory / FOLDER / BROWSE / way.run).absolute()
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, exist_ok=True)
    key, known, config = folder / "key", folder / "known_hosts", folder / "ssh_config"
    putty = folder / "key.ppk"
    write_private(key, way.login.private)
    write_private(putty, ppk(way.login, f"snakemake-ec2 {way.run}"))
    _replace_line(known, way)
    write_private(config, _config(config, way, key, known))
    print("\n".join(_text(way, config, putty)))
    return 0


def _only_machine(options: argparse.Namespace) -> str:
    """The machine that is meant without a name. Raises ConfigurationError if there are none, or several."""
    with folder_journal(options) as journal:
        rows = [
            row
            for inventory in inventories_of(options, journal)
            for row in gather(inventory, journal, time.time())
            if row.ours and row.attempt
        ]
    if len(rows) == 1:
        return rows[0].found.id
    names = [f"{row.found.id} ({row.attempt.label})" for row in rows if row.attempt]
    if not names:
        raise ConfigurationError("no machine of this folder's runs is there: a machine ends with its job")
    raise ConfigurationError(f"which machine? {', '.join(names)}: name one of them")


def _replace_line(known: Path, way: Way) -> None:
    """Keep what is known of the run's other machines."""
    others = known.read_text().splitlines(keepends=True) if known.exists() else []
    write_private(known, "".join(line for line in others if line.split()[:1] != [way.machine]) + way.known)


def _config(config: Path, way: Way, key: Path, known: Path) -> str:
    """The `ssh_config` of the run's machines, with this one's section new."""
    sections = config.read_text().split("\n\n") if config.exists() else []
    others = [each for each in sections if each.strip() and not each.startswith(f"Host {way.machine}\n")]
    lines = [f"Host {way.machine}"]
    lines += [f"  {name} {value}" for name, value in way.ssh_config(key, known)]
    return "\n\n".join([*others, "\n".join(lines)]) + "\n\n"


def _text(way: Way, config: Path, putty: Path) -> list[str]:
    prints = [f"{public.split()[0]} {fingerprint(public)}" for public in way.host_keys]
    sftp = f"sftp -F {shlex.quote(str(config))} {way.machine}"
    where = f"; its working folder: {way.folder}" if way.folder else ""
    lines = [
        f"{way.machine}, {way.label}{where}",
        "",
        "sftp, rsync, VS Code, and everything else that reads an ssh_config",
        f"  {sftp}",
        f"  or this line at the top of ~/.ssh/config: Include {quoted(config)}",
        "",
    ]
    lines += _through_a_tunnel(way, config, putty) if way.proxy else _direct(way, putty)
    lines += [
        "",
        f"Host key, for programs that ask: {' or '.join(prints)}",
        "The key logs in to all machines of this run; its files are removed with the run's last machine.",
    ]
    return lines


def _direct(way: Way, putty: Path) -> list[str]:
    url = f"sftp://{way.user}@{way.address}:{way.port}{shlex.quote(way.folder or '')}"
    return _programs(way, way.address, way.port, putty, url)


def _through_a_tunnel(way: Way, config: Path, putty: Path) -> list[str]:
    forward = f"{_TUNNEL_PORT}:localhost:{way.port}"
    url = f"sftp://{way.user}@localhost:{_TUNNEL_PORT}{shlex.quote(way.folder or '')}"
    return [
        "FileZilla, WinSCP and PuTTY do not use a proxy command: leave this open in another terminal",
        f"  ssh -F {shlex.quote(str(config))} -N -L {forward} {way.machine}",
        "",
        *_programs(way, "localhost", _TUNNEL_PORT, putty, url),
    ]


def _programs(way: Way, host: str, port: int, putty: Path, url: str) -> list[str]:
    first = next((each for each in way.host_keys if each.startswith("ssh-ed25519")), way.host_keys[0])
    pinned = fingerprint(first)
    return [
        "FileZilla: File, Site Manager, New site",
        f"  Protocol SFTP, Host {host}, Port {port}, Logon Type Key file, User {way.user}",
        f"  Key file {putty}",
        "WinSCP",
        f'  winscp {url} /privatekey="{putty}" /hostkey="{pinned}"',
        "PuTTY",
        f'  putty -ssh {way.user}@{host} -P {port} -i "{putty}" -hostkey {pinned}',
    ]
