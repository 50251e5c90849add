"""Write the report: precision and recall of every sample, and what they were measured on."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from pathlib import Path

from genome import log_to, read_vcf

log = log_to(snakemake.log[0])
with Path(snakemake.input.accuracy).open(newline="") as handle:
    rows = list(csv.DictReader(handle, delimiter="\t"))
_, truth = read_vcf(snakemake.input.truth)
header, cohort = read_vcf(snakemake.input.cohort)
samples = len(header[-1].split("\t")) - 9
bed = [line.split("\t") for line in Path(snakemake.input.bed).read_text().splitlines()]
sure = sum(int(high) - int(low) for _, low, high in bed)
everywhere = sum(all(not call.startswith(".") for call in record[9:]) for record in cohort)

lines = [
    "# Variants called, by sample",
    "",
    f"Reference {bed[0][0]}, first {snakemake.params.length:,} bases, of which {sure:,} are confident; "
    f"{len(truth):,} true variants.",
    "",
    "| sample | mean depth | found | missed | wrong | precision | recall |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
]
for row in rows:
    lines.append(
        f"| {row['sample']} | {float(row['mean_depth']):.1f} | {row['found']} | {row['missed']} "
        f"| {row['wrong']} | {row['precision']} | {row['recall']} |"
    )
lines += [
    "",
    f"Passed: {Path(snakemake.input.passed).read_text().strip()}.",
    "",
    f"{len(cohort):,} sites were called in at least one of the {samples} samples, {everywhere:,} in all "
    "of them, inside and outside the confident regions.",
]
Path(snakemake.output[0]).write_text("\n".join(lines) + "\n")
log.info("%d samples, %d sites", len(rows), len(cohort))
