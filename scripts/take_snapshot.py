"""Writes `snakemake_executor_ec2/aws/snapshot.csv`; called by `scripts/snapshot`.

Types are of the first region that is named, prices of all. Prices are AWS's or none: what the embedded
cloud asks is made up, and is never written down as if somebody had to pay it.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from snakemake_executor_ec2.aws import snapshot
from snakemake_executor_ec2.aws.catalogue import fetch_instance_types
from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.prices import fetch_on_demand
from snakemake_executor_ec2.aws.snapshot import Snapshot
from snakemake_executor_ec2.local.cloud import EmbeddedCloud


def main() -> None:
    """Take it, write it, say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regions", nargs="+", metavar="REGION", help="AWS regions, or `local`")
    parser.add_argument("--to", type=Path, default=snapshot.PATH)
    options = parser.parse_args()
    taken = _of_moto() if options.regions == ["local"] else _of_aws(options.regions)
    options.to.write_text(snapshot.write(taken))
    regions = ", ".join(sorted(taken.usd_per_hour)) or "no region"
    print(f"{options.to}: {len(taken.types)} types, prices of {regions} ({taken.source}, {taken.taken})")


def _of_moto() -> Snapshot:
    with EmbeddedCloud() as cloud:
        for name in cloud.unset:
            os.environ.pop(name, None)
        os.environ.update(cloud.env)
        types = fetch_instance_types(Clients(region=None, profile=None).ec2)
    source = f"us-east-1, from moto {version('moto')}"
    return Snapshot(taken=_today(), source=source, types=types, usd_per_hour={})


def _of_aws(regions: list[str]) -> Snapshot:
    if os.environ.get("AWS_ENDPOINT_URL"):
        raise SystemExit("AWS_ENDPOINT_URL is set: prices are AWS's own or none")
    all_clients = {region: Clients(region=region, profile=None) for region in regions}
    types = fetch_instance_types(all_clients[regions[0]].ec2)
    vcpus = [each.vcpus for each in types]
    usd = {
        region: fetch_on_demand(clients.pricing, region, names=(), vcpus=vcpus)
        for region, clients in all_clients.items()
    }
    return Snapshot(taken=_today(), source=f"{regions[0]}, from EC2", types=types, usd_per_hour=usd)


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


if __name__ == "__main__":
    main()
