"""The environment variables that point an AWS client at the embedded cloud, and nowhere else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .guard import Secrets

REGION = "us-east-1"
CONTROL_TOKEN = "SNAKEMAKE_EC2_CONTROL_TOKEN"  # noqa: S105 -- a variable's name
SSH_PORT = "SNAKEMAKE_EC2_SSH_PORT"
_SSH_PORT = 22
SERVICES = ("AWS_ENDPOINT_URL", "SNAKEMAKE_EC2_SSH_PORT")
"""What a host needs to use the cloud; it gets its credentials, and its region, from its metadata service."""
# A profile would bring another account's credentials and endpoints, a token another account's session.
# A service's own endpoint would win over the one for all.
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    *(f"AWS_ENDPOINT_URL_{name}" for name in ("EC2", "PRICING", "SERVICE_QUOTAS", "SSM", "STS", "S3", "IAM")),
)


def cloud_environment(endpoint_url: str, given: Secrets, ssh_port: int, answers: Path) -> dict[str, str]:
    """Variables for a client of the cloud; those in `UNSET` must be absent as well. `answers` is a
    folder that ends with the cloud: what its clients keep of its answers is of no use after it."""
    variables = {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": given.access_key,
        "AWS_SECRET_ACCESS_KEY": given.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SNAKEMAKE_EC2_CACHE": str(answers),
        CONTROL_TOKEN: given.control_token,
    }
    if ssh_port != _SSH_PORT:
        variables[SSH_PORT] = str(ssh_port)
    # Last: whoever reads the variables as they are printed knows by it that all are there.
    return variables | {"AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that point every AWS client of this process at a cloud, for a while."""
    ours = {*variables, *UNSET, SSH_PORT}
    before = {name: os.environ.pop(name, None) for name in ours}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def shell_lines(variables: dict[str, str]) -> str:
    """The same for a shell to evaluate."""
    lines = [f"unset {name}" for name in UNSET]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "".join(f"{line}\n" for line in lines)
