"""Write the report: the main result and its bootstrap, every specification, and what fell out."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from collections import defaultdict
from pathlib import Path

from panel import UNITS, log_to


def read(path: str, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a header."""
    with Path(path).open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter=delimiter))


def effect(row: dict[str, str]) -> str:
    """An estimate and its interval, as one cell."""
    return f"{float(row['coefficient']):+.2f} [{float(row['low']):+.2f}, {float(row['high']):+.2f}]"


log = log_to(snakemake.log[0])
specs = {row["spec"]: row["label"] for row in read(snakemake.input.specs, "\t")}
estimates: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
for row in read(snakemake.input.estimates):
    estimates[row["spec"]][row["predictor"]] = row
main = estimates[snakemake.params.main]
bootstrap = read(snakemake.input.bootstrap)
regions = defaultdict(list)
for row in read(snakemake.input.by_region):
    regions[row["group"]].append(row)
unmatched = read(snakemake.input.unmatched)
some = next(iter(main.values()))
level = f"{snakemake.params.level:.0%}"

lines = [
    "# Fertility, income and longevity",
    "",
    f"{some['observations']} observations of {some['countries']} countries. "
    f"Main specification: {specs[snakemake.params.main].lower()}.",
    "",
    f"| predictor | effect | clustered {level} | bootstrap {level} |",
    "| --- | ---: | ---: | ---: |",
]
for row in bootstrap:
    clustered = main[row["predictor"]]
    lines.append(
        f"| {row['predictor']}: {UNITS[row['predictor']]} | {float(clustered['coefficient']):+.2f} "
        f"| [{float(clustered['low']):+.2f}, {float(clustered['high']):+.2f}] "
        f"| [{float(row['low']):+.2f}, {float(row['high']):+.2f}] |"
    )
lines += [
    "",
    "## Every specification",
    "",
    "| specification | income | longevity | observations | countries | R² |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
]
for spec, label in specs.items():
    rows = estimates[spec]
    cells = [effect(rows[name]) if name in rows else "" for name in UNITS]
    one = next(iter(rows.values()))
    lines.append(
        f"| {label} | {cells[0]} | {cells[1]} | {one['observations']} | {one['countries']} "
        f"| {float(one['r_squared']):.2f} |"
    )
lines += [
    "",
    "## Children per woman",
    "",
    "| group | countries | first year | last year |",
    "| --- | ---: | ---: | ---: |",
]
for group, rows in regions.items():
    ends = [f"{float(row['tfr']):.1f} ({row['year']})" for row in (rows[0], rows[-1])]
    lines.append(f"| {group} | {rows[-1]['countries']} | {ends[0]} | {ends[1]} |")
lines += ["", "## Left out", ""]
lines += [f"- {row['country']}: {row['reason']}" for row in unmatched] or ["Nothing."]
Path(snakemake.output[0]).write_text("\n".join(lines) + "\n")
log.info("%d specifications, %d countries left out", len(specs), len(unmatched))
