"""EC2's types and on-demand prices of a certain day, used if AWS itself may not be asked.

`snapshot.csv` beside this module is written by `scripts/snapshot`, and says in its first line where
types and prices are from and when they were taken. A price in it is AWS's; where there is none,
none is known (docs/decisions/0012).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.aws.catalogue import from_json, to_json
from snakemake_executor_ec2.model import InstanceType

PATH = Path(__file__).with_name("snapshot.csv")

_FIELDS = {field.name: field for field in fields(InstanceType)}
_USD = "usd "
"""Prices have a column for each region: `usd eu-central-1`."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What EC2 had on a day."""

    taken: str
    """The day, such as `2026-11-22`."""
    source: str
    """For people: `DescribeInstanceTypes in us-east-1`."""
    types: tuple[InstanceType, ...]
    usd_per_hour: Mapping[str, Mapping[str, float]]
    """On-demand prices by region and type; regions whose prices are not known are absent."""
    prices_taken: str = ""
    """The day of the prices; empty if there are none."""
    prices_source: str = ""

    def prices_for(self, region: str) -> tuple[str, Mapping[str, float]]:
        """The region's prices, else another region's, which rank types as well; with the region that
        they are of. China's are others, and in another currency: empty if none are of use."""
        own = self.usd_per_hour.get(region)
        if own is not None or region.startswith("cn-"):
            return region, own or {}
        return next(iter(self.usd_per_hour.items()), (region, {}))


def read(text: str | None = None) -> Snapshot:
    """The snapshot that this package came with, or another one's text."""
    first, _, table = (PATH.read_text() if text is None else text).partition("\n")
    about = json.loads(first)
    rows = list(csv.DictReader(io.StringIO(table)))
    usd: dict[str, dict[str, float]] = {}
    for row in rows:
        for column, value in row.items():
            if column.startswith(_USD) and value:
                usd.setdefault(column.removeprefix(_USD), {})[row["name"]] = float(value)
    return Snapshot(
        taken=about["taken"],
        source=about["source"],
        types=from_json(_typed(row) for row in rows),
        usd_per_hour=usd,
        prices_taken=about["prices_taken"],
        prices_source=about["prices_source"],
    )


def write(snapshot: Snapshot) -> str:
    """The text of a snapshot: a line about it, and a table. Usual values are left out."""
    regions = sorted(snapshot.usd_per_hour)
    out = io.StringIO()
    told = ("taken", "source", "prices_taken", "prices_source")
    out.write(json.dumps({name: getattr(snapshot, name) for name in told}) + "\n")
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*_FIELDS, *(_USD + region for region in regions)])
    for row in to_json(sorted(snapshot.types, key=lambda each: each.name)):
        usd = [snapshot.usd_per_hour[region].get(row["name"], "") for region in regions]
        table.writerow([*(_cell(name, row[name]) for name in _FIELDS), *usd])
    return out.getvalue()


def _cell(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if value == _FIELDS[name].default:
        return ""
    return str(value)


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    """The cells as `from_json` wants them."""
    return {name: _value(name, row[name]) for name in _FIELDS}


def _value(name: str, cell: str) -> Any:
    default = _FIELDS[name].default
    if name in ("arches", "markets"):
        return cell.split()
    if not cell and default is not MISSING:
        return default
    if isinstance(default, bool):
        return cell == "True"
    if isinstance(default, float):
        return float(cell)
    return cell if name in ("name", "gpu_model") else int(cell)
