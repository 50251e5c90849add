"""Where ssh connections of ours come from, as machines see it."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.aws import network
from snakemake_executor_ec2.aws.network import Caller
from snakemake_executor_ec2.errors import ConfigurationError


def fail_to_look_up() -> str:
    raise ConfigurationError("no answer; --ec2-ssh-from")


def caller(
    endpoint: str = "http://127.0.0.1:4566",
    *,
    ssh_from: str | None = None,
    public: str = "",
    beside: tuple[str, ...] = (),
) -> Caller:
    return Caller(
        ssh_from=ssh_from,
        endpoint=lambda: endpoint,
        look_up_public=(lambda: public) if public else fail_to_look_up,
        proxy_from=(lambda: beside) if beside else None,
    )


def test_the_setting_wins() -> None:
    """What the user names is taken, wherever EC2 and the machine are."""
    named = caller(ssh_from="203.0.113.0/24, 198.51.100.7", public="192.0.2.1")
    expected = ("203.0.113.0/24", "198.51.100.7/32")
    assert named.networks() == expected
    assert named.networks_towards("127.0.0.1") == expected


@pytest.mark.parametrize("text", ["here", "203.0.113.0/99", "203.0.113"])
def test_bad_setting(text: str) -> None:
    """What is no network is refused, and the option is named."""
    with pytest.raises(ConfigurationError, match="--ec2-ssh-from"):
        caller(ssh_from=text).networks()


def test_a_proxy_comes_from_beside_the_machines() -> None:
    """Nobody asks for this computer's address then; the setting overrules it, also with no network at all."""
    beside = ("10.0.0.0/20", "10.1.0.0/24")
    for endpoint in ("http://127.0.0.1:4566", "https://52.94.0.9"):
        proxied = caller(endpoint, beside=beside)
        assert proxied.networks() == proxied.networks_towards("10.0.0.7") == beside
    assert caller(ssh_from="10.9.0.1", beside=beside).networks() == ("10.9.0.1/32",)
    nobody = caller(ssh_from="none", beside=beside)
    assert nobody.networks() == nobody.networks_towards("10.0.0.7") == ()


def test_nobody_in_and_no_proxy() -> None:
    """No machine could be reached: refused before one is launched."""
    with pytest.raises(ConfigurationError, match="lets nobody in"):
        caller(ssh_from="none").networks()


def test_api_on_this_computer() -> None:
    """Where EC2's API is on this computer, its machines see this computer's own address."""
    assert caller().networks() == ("127.0.0.1/32",)


def test_api_on_the_internet() -> None:
    """Where EC2's API is elsewhere, the public address counts, and that alone."""
    assert caller("https://52.94.0.9", public="198.51.100.7").networks() == ("198.51.100.7/32",)


def test_public_address_unknown() -> None:
    """Where the public address can't be found out, the user is told how to name it."""
    with pytest.raises(ConfigurationError, match="--ec2-ssh-from"):
        caller("https://52.94.0.9").networks()


def test_towards_a_private_machine() -> None:
    """For a machine in a private network, our address on the way to it is let in as well."""
    found = caller("https://52.94.0.9", public="198.51.100.7").networks_towards("127.0.0.5")
    assert found == ("127.0.0.1/32", "198.51.100.7/32")
    assert caller("https://52.94.0.9").networks_towards("127.0.0.5") == ("127.0.0.1/32",)


def test_towards_a_public_machine() -> None:
    """For a machine with a public address, the public address of ours is looked up again."""
    assert caller("https://52.94.0.9", public="198.51.100.8").networks_towards("52.94.1.1") == (
        "198.51.100.8/32",
    )


@pytest.mark.parametrize(
    ("host", "internal"),
    [("127.0.0.1", True), ("localhost", True), ("10.1.2.3", True), ("192.168.0.1", True), ("8.8.8.8", False)],
)
def test_internal(host: str, internal: bool) -> None:
    """Loopback and private addresses are internal; a host that does not resolve is not."""
    assert network.is_internal(host) is internal
    assert not network.is_internal("no-such-host.invalid")


def test_ipv6() -> None:
    """One IPv6 address is a network of 128 bits."""
    assert network.only("2001:db8::1") == "2001:db8::1/128"
    assert network.only("203.0.113.7") == "203.0.113.7/32"
