"""OpenSSH certificates: a key that may run one command, from one address, for some minutes. Pure."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from snakemake_executor_ec2.model import KeyPair


def authority_line(public: str) -> str:
    """The line of `authorized_keys` by which a machine accepts what this key has certified, and no more."""
    return f"cert-authority,restrict {public}"


def certify(
    authority: KeyPair, public: str, *, user: str, command: str, source: str, since_s: float, until_s: float
) -> str:
    """A certificate for the public key: `user` may run `command` from the address `source`, and nothing
    else, between the two times (seconds since the epoch, by the clock of the machine that is logged in to).
    """
    signing = serialization.load_ssh_private_key(authority.private.encode(), password=None)
    certified = serialization.load_ssh_public_key(public.encode())
    assert isinstance(signing, ed25519.Ed25519PrivateKey)
    assert isinstance(certified, ed25519.Ed25519PublicKey)
    builder = (
        serialization.SSHCertificateBuilder()
        .public_key(certified)
        .type(serialization.SSHCertificateType.USER)
        .key_id(b"snakemake-ec2 peer")
        .valid_principals([user.encode()])
        .valid_after(int(since_s))
        .valid_before(int(until_s))
        .add_critical_option(b"force-command", command.encode())
        .add_critical_option(b"source-address", f"{source}/32".encode())
    )
    return builder.sign(signing).public_bytes().decode()
