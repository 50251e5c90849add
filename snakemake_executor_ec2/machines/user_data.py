"""What a machine gets for its first boot: a cloud-config as user-data. Pure.

No launch of ours goes without: timers that end the machine, a host key that is known beforehand, and the
keys that may log in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import KeyPair

MAX_USER_DATA_BYTES = 16_384
"""EC2's limit, before the base64 that boto3 adds."""

LIFETIME_UNIT = "snakemake-ec2-lifetime"
"""The systemd timer that ends a machine; `systemctl list-timers` on it shows the time left."""

CLAIM_UNIT = "snakemake-ec2-claim"
"""The timer that ends a machine on which no agent was installed: its Snakemake died while it booted.
Later it watches the lease, too, for a user who may not power off."""

_SHUTDOWN_PATIENCE_S = 120
"""How long an orderly shutdown may take before the machine is switched off."""
_END = (
    "systemctl poweroff || poweroff || shutdown -h now; "
    f"sleep {_SHUTDOWN_PATIENCE_S}; systemctl --force --force poweroff || poweroff -f"
)
NO_AGENT = '[ -d /proc/1 ] && ! grep -aqs "[a]gent[.]pyz" /proc/[0-9]*/cmdline'
"""True in a shell on a machine where no process of the agent's runs. The brackets keep the pattern
from fitting the very command that it is in; single quotes would end those that are put around it."""
_LAPSED = (
    r'awk "NR == 1 {{ now = \$1 }} NR == 2 {{ over = (\$2 > 0 && now - \$1 > \$2 + 90) }} '
    'END {{ exit !over }}" /proc/uptime {lease}'
)
"""True in a shell where the lease that an agent keeps in a file (see `agent/lease.py`) is over, and
neither its guard nor a job's supervisor has ended the machine for it."""
_TMP_ON_DISK = (
    "! grep -qs '^[^ ]* /tmp tmpfs ' /proc/mounts || "
    "{ d=/var/tmp/snakemake-ec2-tmp; mkdir -p $d && chmod 1777 $d && mount --bind $d /tmp; }"
)
"""Amazon Linux 2023 has /tmp in memory, half of it at most: there it would count against a job's
`mem_mb`, and what `disk_mb` asks for would lie idle. Programs that go by TMPDIR are the fewer."""
_OUTLIVE_LOGOUT = (
    "d=/run/systemd/logind.conf.d; mkdir -p $d && "
    "printf '[Login]\\nKillUserProcesses=no\\n' > $d/zz-snakemake-ec2.conf && "
    "timeout 10 systemctl --no-block try-restart systemd-logind"
)
"""Some images end whatever a user runs with the last connection (`KillUserProcesses=yes`): jobs and the
lease's guard would end while the controller sleeps."""
_LOGIN_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


def cloud_config(
    *, host_key: KeyPair, authorized_keys: Sequence[str], lifetime_s: int, claim_s: int, ssh_user: str
) -> str:
    """A cloud-config: when the machine ends, what its host key is and who may log in.

    It ends after `lifetime_s` whatever happens, and after `claim_s` where no agent has come, or
    where its lease is over and its user could not end it: an image need not have sudo.

    Nothing is installed from here, and the host key is the only secret: user-data can be read
    on the machine and through the API, so that key is replaced after the first connection.
    Raises ConfigurationError for a login name that no system would take.
    """
    if not _LOGIN_NAME.fullmatch(ssh_user):
        raise ConfigurationError(f"--ec2-ssh-user {ssh_user!r} is not a login name")
    lapsed = _LAPSED.format(lease=f"~{ssh_user}/.snakemake-ec2/lease")
    claim = f"{NO_AGENT} || until {lapsed}; do sleep 60; done; {_END}"
    config: dict[str, object] = {
        # A list per command: cloud-init quotes its words for the shell.
        "bootcmd": [
            ["sh", "-c", _timer(LIFETIME_UNIT, lifetime_s, _END)],
            ["sh", "-c", _timer(CLAIM_UNIT, claim_s, claim)],
            ["sh", "-c", _TMP_ON_DISK],
            ["sh", "-c", _OUTLIVE_LOGOUT],
        ],
        # Host keys baked into an image are the same on every machine made from it.
        "ssh_deletekeys": True,
        "ssh_genkeytypes": ["ed25519"],
        "ssh_keys": {
            "ed25519_private": host_key.private.rstrip("\n") + "\n",
            "ed25519_public": host_key.public,
        },
        # For the image's default user, whoever that is: ec2-user, ubuntu, admin.
        "ssh_authorized_keys": list(authorized_keys),
    }
    if ssh_user == "root":
        # Otherwise root's key only runs a command that prints another user's name.
        config["disable_root"] = False
    else:
        config["users"] = ["default", _login(ssh_user, authorized_keys)]
    return _rendered(config, len(authorized_keys))


def _rendered(config: Mapping[str, object], keys: int) -> str:
    text = "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=10_000)
    size = len(text.encode())
    if size > MAX_USER_DATA_BYTES:
        raise ConfigurationError(
            f"user-data has {size} bytes with {keys} login keys; EC2 takes {MAX_USER_DATA_BYTES}"
        )
    return text


def _login(name: str, authorized_keys: Sequence[str]) -> dict[str, object]:
    """A user that may log in and use sudo. cloud-init makes it where the image has none, only
    adds the keys where it has, and merges it with `default` where it is the default user."""
    return {
        "name": name,
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "ssh_authorized_keys": list(authorized_keys),
    }


def _timer(unit: str, seconds: int, command: str) -> str:
    """A shell command that has another one run after some seconds, whatever else happens.

    cloud-init runs bootcmd before sysinit.target on some systems. Units that a timer or a
    service wait for by default would then come after ourselves: hence `--no-block` and no
    default dependencies, which also lets the timer end a machine that hangs while it boots or
    shuts down. If there is no systemd, a sleeping process does the same.
    """
    armed = (
        f"timeout 10 systemd-run --no-block --collect --unit={unit} "
        f"--on-active={seconds} --timer-property=AccuracySec=1s "
        "--timer-property=DefaultDependencies=no --property=DefaultDependencies=no "
        f"/bin/sh -c '{command}'"
    )
    fallback = f"setsid /bin/sh -c 'sleep {seconds}; {command}' </dev/null >/dev/null 2>&1 &"
    return f"{armed} || {{ {fallback} }}"
