"""Depth and mapping of one sample, as one row."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

from pathlib import Path

import pysam
from genome import log_to

log = log_to(snakemake.log[0])
sample = snakemake.wildcards.sample
with pysam.AlignmentFile(snakemake.input.bam) as handle:
    contig, length = handle.references[0], handle.lengths[0]
    statistics = handle.get_index_statistics()[0]
    counts = handle.count_coverage(contig, 0, length, quality_threshold=0)
    unplaced = handle.nocoordinate
depths = sorted(map(sum, zip(*counts, strict=True)))
row = {
    "sample": sample,
    "reads": statistics.mapped + unplaced,
    "mapped": statistics.mapped,
    "mean_depth": f"{sum(depths) / length:.2f}",
    "median_depth": depths[length // 2],
    "covered_5x": f"{sum(depth >= 5 for depth in depths) / length:.4f}",
}
Path(snakemake.output[0]).write_text("\t".join(row) + "\n" + "\t".join(map(str, row.values())) + "\n")
log.info("mean depth %s", row["mean_depth"])
