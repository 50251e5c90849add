"""Fail the workflow if any sample is less accurate than the configuration asks for."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from pathlib import Path

from genome import log_to

log = log_to(snakemake.log[0])
with Path(snakemake.input.accuracy).open(newline="") as handle:
    rows = list(csv.DictReader(handle, delimiter="\t"))
failures = [
    f"{row['sample']}: {measure} {row[measure]} is below {threshold}"
    for row in rows
    for measure, threshold in snakemake.params.thresholds.items()
    if float(row[measure]) < threshold
]
for failure in failures:
    log.error(failure)
if failures:
    raise SystemExit("; ".join(failures))
passed = ", ".join(f"{measure} >= {threshold}" for measure, threshold in snakemake.params.thresholds.items())
Path(snakemake.output[0]).write_text(f"{len(rows)} samples: {passed}\n")
log.info("%d samples passed", len(rows))
