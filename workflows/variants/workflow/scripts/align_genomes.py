"""Cut the donor genome into tiles and map each to the reference."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import pysam
from genome import log_to, read_fasta
from pybwa import BwaMem, BwaMemOptions
from pybwa.libbwamem import BwaMemMode

log = log_to(snakemake.log[0])
tile = snakemake.params.tile
_, donor = read_fasta(snakemake.input.donor)
tiles = [
    pysam.FastxRecord(name=str(start), sequence=donor[start : start + tile])
    for start in range(0, len(donor), tile)
]
# INTRACTG is BWA's preset for comparing assembled sequences of one species.
options = BwaMemOptions(mode=BwaMemMode.INTRACTG, threads=snakemake.threads)
aligner = BwaMem(f"{snakemake.input.index}/reference.fa")
alignments = [record for records in aligner.align(tiles, options) for record in records]
header = pysam.AlignmentHeader.from_dict(
    {"HD": {"VN": "1.6", "SO": "unsorted"}, "SQ": alignments[0].header.to_dict()["SQ"]}
)
with pysam.AlignmentFile(snakemake.output.bam, "wb", header=header) as handle:
    for record in alignments:
        handle.write(record)
log.info("%d tiles, %d alignments", len(tiles), len(alignments))
