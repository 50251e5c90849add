"""Findings about ways to the machines other than this computer's own address: a proxy, private addresses."""

from __future__ import annotations

from collections.abc import Sequence

from snakemake_executor_ec2.aws.network import Subnet
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.doctor.findings import Finding, ok, warning
from snakemake_executor_ec2.ssh.proxy import proxy_command


def proxy(config: RunConfig, networks: Sequence[str]) -> list[Finding]:
    """The command of `--ec2-ssh-proxy`. `networks`: what the machines accept ssh from."""
    command = proxy_command(config.ssh_proxy)
    if command is None:
        return []
    opened = f"open to {', '.join(networks)}"
    opened += (
        "" if config.ssh_from else ", the subnets beside the machines', where jump hosts and endpoints are"
    )
    if not networks:
        opened = "open to nobody: enough for a way that ends on the machine, as Session Manager's does"
    found = [
        ok(
            "way in",
            f"through `{command.words[0]}` (--ec2-ssh-proxy); ssh, port {config.ssh_port}, will be {opened}",
        )
    ]
    if "ssm" in command.words and not config.instance_profile:
        found.append(
            warning(
                "way in",
                "AWS's Session Manager reaches a machine only if an instance profile allows that, and there "
                "is no --ec2-instance-profile",
                "name one that has the policy AmazonSSMManagedInstanceCore; nothing, if the account's "
                "default host management covers its machines",
            )
        )
    return found


def no_public_address(subnets: Sequence[Subnet], config: RunConfig) -> list[Finding]:
    """What `--ec2-public-ip never` means in these subnets."""
    through_gateway = [each.id for each in subnets if each.public]
    if config.public_ip or not through_gateway:
        return []
    return [
        warning(
            "network",
            f"without public addresses (--ec2-public-ip never), machines in {', '.join(through_gateway)} get "
            "no software: an internet gateway serves public addresses only",
            "name subnets whose way to the internet is a NAT gateway with --ec2-subnets, or make an image "
            "that has all software (`snakemake-ec2 bake`)",
        )
    ]
