"""Writes `snakemake_executor_ec2/aws/snapshot.csv`; called by `scripts/snapshot`.

Types are of the first region that is named, prices of all. Prices are AWS's or none: what the embedded
cloud asks elsewhere is made up, and is never written down as if somebody had to pay it. Without an AWS
account, `local` takes the types that moto ships and leaves the prices as they are; `--prices FILE` takes
those of a list that somebody else made with AWS's Pricing API: Karpenter's `zz_generated.pricing_aws.go`,
or lines like `"m7i.large": 0.1008` after `// generated at 2026-01-19T13:23:24Z for us-east-1`.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
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
    parser.add_argument("--prices", type=Path, metavar="FILE")
    parser.add_argument("--to", type=Path, default=snapshot.PATH)
    options = parser.parse_args()
    taken = _of_moto() if options.regions == ["local"] else _of_aws(options.regions)
    if options.prices:
        taken = _with_prices(taken, options.prices.read_text())
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
    return replace(snapshot.read(), taken=_today(), source=source, types=types)


def _with_prices(taken: Snapshot, listed: str) -> Snapshot:
    told = re.search(r"generated at (\S+?)T\S+ for (\S+)", listed)
    if told is None:
        raise SystemExit("the list of prices does not say of which day and region it is")
    day, region = told.groups()
    usd = {name: float(price) for name, price in re.findall(r'"([\w-]+\.[\w-]+)": ([0-9.]+)', listed)}
    return replace(
        taken, usd_per_hour={region: usd}, prices_taken=day, prices_source="AWS's Pricing API, by Karpenter"
    )


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
    return Snapshot(
        taken=_today(),
        source=f"{regions[0]}, from EC2",
        types=types,
        usd_per_hour=usd,
        prices_taken=_today(),
        prices_source="AWS's Pricing API",
    )


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


if __name__ == "__main__":
    main()
