"""From a `LaunchSpec` to the words of EC2's RunInstances. Pure: the call itself is in `aws/launching.py`.

What no launch of ours goes without: the machine ends when it powers off, its volumes end
with it and are encrypted, its metadata service wants a session token, and everything that
the call makes carries our tags from its first moment.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Image, KeyPair, LaunchSpec, Market, Requirements

RUN_TAG = "snakemake-ec2:run"
JOB_TAG = "snakemake-ec2:job"
RULE_TAG = "snakemake-ec2:rule"
OWNER_TAG = "snakemake-ec2:owner"
EXPIRES_TAG = "snakemake-ec2:expires-at"
FOLDER_TAG = "snakemake-ec2:folder"

SOFTWARE_GIB = 4
"""Room on the root volume for Snakemake, a Python and what a job's environment adds."""
MIN_ROOT_GIB = 8
MAX_ROOT_GIB = 65_536
"""gp3's largest volume: 64 TiB (AWS, since September 2025; 16 TiB before)."""

MAX_USER_DATA_BYTES = 16_384
"""EC2's limit, before the base64 that boto3 adds."""

LIFETIME_UNIT = "snakemake-ec2-lifetime"
"""The systemd timer that ends a machine; `systemctl list-timers` on it shows the time left."""

CLAIM_UNIT = "snakemake-ec2-claim"
"""The timer that ends a machine which nobody has moved in to: its Snakemake died while it booted. From
then on it looks after the lease, too, for a user who may not power off."""

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
neither its guard nor a job's warden has ended the machine for it."""
_TMP_ON_DISK = (
    "! grep -qs '^[^ ]* /tmp tmpfs ' /proc/mounts || "
    "{ d=/var/tmp/snakemake-ec2-tmp; mkdir -p $d && chmod 1777 $d && mount --bind $d /tmp; }"
)
"""Amazon Linux 2023 has /tmp in memory, half of it at most: there it would count against a job's
`mem_mb`, and what `disk_mb` asks for would lie idle. Programs that go by TMPDIR are the fewer."""
_LOGIN_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")

_TAG_CHARS = set(" +-=._:/@")
"""What every AWS service takes in tags, beside letters and digits."""
_MAX_TAGS = 50
_MAX_TAG_KEY = 128
_MAX_TAG_VALUE = 256
_OUR_PREFIX = "snakemake-ec2:"


def run_instances_request(
    spec: LaunchSpec, *, subnet_id: str, group_id: str, public_address: bool
) -> dict[str, Any]:
    """Keyword arguments for boto3's `run_instances`: one machine, complete."""
    tags = [{"Key": key, "Value": value} for key, value in sorted(spec.tags.items())]
    request: dict[str, Any] = {
        "ClientToken": spec.token,
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": spec.image.ami,
        "InstanceType": spec.offer.instance_type.name,
        "UserData": spec.user_data,
        # EC2's own default is "stop", which keeps a volume and a bill.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": spec.image.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": spec.disk_gib,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            },
            *(
                {"DeviceName": name, "Ebs": {"DeleteOnTermination": True, "Encrypted": True}}
                for name in spec.image.other_devices
            ),
        ],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet_id,
                "Groups": [group_id],
                "AssociatePublicIpAddress": public_address,
                "DeleteOnTermination": True,
            }
        ],
        "TagSpecifications": [
            {"ResourceType": what, "Tags": tags} for what in ("instance", "volume", "network-interface")
        ],
    }
    if spec.instance_profile:
        kind = "Arn" if spec.instance_profile.startswith("arn:") else "Name"
        request["IamInstanceProfile"] = {kind: spec.instance_profile}
    if spec.offer.instance_type.burstable:
        # The default of T3 and T4g is "unlimited", which bills surplus credits.
        request["CreditSpecification"] = {"CpuCredits": "standard"}
    if spec.offer.market is Market.SPOT:
        request["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        }
    return request


def user_data(
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
    text = "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=10_000)
    size = len(text.encode())
    if size > MAX_USER_DATA_BYTES:
        raise ConfigurationError(
            f"user-data has {size} bytes with {len(authorized_keys)} login keys; "
            f"EC2 takes {MAX_USER_DATA_BYTES}"
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
    shuts down. Where there is no systemd, a sleeping process does the same.
    """
    armed = (
        f"timeout 10 systemd-run --no-block --collect --unit={unit} "
        f"--on-active={seconds} --timer-property=AccuracySec=1s "
        "--timer-property=DefaultDependencies=no --property=DefaultDependencies=no "
        f"/bin/sh -c '{command}'"
    )
    fallback = f"setsid /bin/sh -c 'sleep {seconds}; {command}' </dev/null >/dev/null 2>&1 &"
    return f"{armed} || {{ {fallback} }}"


def client_token(*parts: str) -> str:
    """A ClientToken that is a function of its parts: 64 hexadecimal digits.

    The parts are run, job, attempt and whatever makes this launch another one than the last.
    """
    # As JSON, so that ("ab", "c") and ("a", "bc") differ.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def disk_gib(requirements: Requirements, image: Image) -> int:
    """The root volume's size in GiB: the image, the software, and the job's `disk_mb`."""
    job_gib = requirements.disk_mb * 10**6 / 2**30
    size = max(MIN_ROOT_GIB, math.ceil(image.root_gib + SOFTWARE_GIB + job_gib))
    if size > MAX_ROOT_GIB:
        raise ConfigurationError(
            f"needs disk_mb={requirements.disk_mb}; the largest EBS volume has "
            f"{MAX_ROOT_GIB} GiB, the image and its software included"
        )
    return size


def tags(
    *,
    run_id: str,
    job_key: str,
    rule: str,
    owner: str,
    expires_at: float,
    folder: str = "",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A machine's tags: whose it is, what it runs and when it ends on its own.

    `expires_at` is in seconds since the epoch; `extra` are the user's own tags. Our own
    values are made to fit EC2's rules; the user's are refused (ConfigurationError) where
    they don't fit, because cost reports look for exactly what was written.
    """
    ours = {
        "Name": f"snakemake: {rule}",
        RUN_TAG: run_id,
        JOB_TAG: job_key,
        RULE_TAG: rule,
        OWNER_TAG: owner,
        EXPIRES_TAG: datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if folder:
        ours[FOLDER_TAG] = folder
    fitting = {key: _fit(value) for key, value in ours.items()}
    return fitting | check_tags(extra or {}, taken=len(ours))


def check_tags(extra: Mapping[str, str], *, taken: int = 7) -> dict[str, str]:
    """The user's tags, as they are. Raises ConfigurationError for one that EC2 would refuse.

    `taken` is the number of tags that we set ourselves.
    """
    if len(extra) + taken > _MAX_TAGS:
        raise ConfigurationError(
            f"{len(extra)} tags are too many; {_MAX_TAGS - taken} fit beside the executor's own"
        )
    for key, value in extra.items():
        if not key or len(key) > _MAX_TAG_KEY:
            raise ConfigurationError(f"tag {key!r}: a tag's name has 1 to {_MAX_TAG_KEY} characters")
        if len(value) > _MAX_TAG_VALUE:
            raise ConfigurationError(f"tag {key!r}: a tag's value has at most {_MAX_TAG_VALUE} characters")
        if key.lower().startswith("aws:") or key.startswith(_OUR_PREFIX):
            raise ConfigurationError(f"tag {key!r}: names that begin with aws: or {_OUR_PREFIX} are reserved")
        wrong = sorted({char for char in key + value if not _fits(char)})
        if wrong:
            raise ConfigurationError(
                f"tag {key!r}: the character {wrong[0]!r} is not allowed; letters, digits, "
                "blanks and + - = . _ : / @ are"
            )
    return dict(extra)


def _fit(value: str) -> str:
    cleaned = "".join(char if _fits(char) else "_" for char in value)
    return cleaned[:_MAX_TAG_VALUE]


def _fits(char: str) -> bool:
    return char in _TAG_CHARS or char.isalpha() or char.isdecimal()
