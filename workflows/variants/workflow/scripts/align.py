"""Map one sample's reads, and write the alignments sorted and indexed."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import tempfile
from pathlib import Path

import pysam
from genome import log_to
from pybwa import BwaMem, BwaMemOptions

log = log_to(snakemake.log[0])
sample = snakemake.wildcards.sample
with pysam.FastxFile(snakemake.input.fastq) as handle:
    reads = [pysam.FastxRecord(name=r.name, sequence=r.sequence, quality=r.quality) for r in handle]
aligner = BwaMem(f"{snakemake.input.index}/reference.fa")
alignments = [
    r for records in aligner.align(reads, BwaMemOptions(threads=snakemake.threads)) for r in records
]

header = pysam.AlignmentHeader.from_dict(
    {
        "HD": {"VN": "1.6", "SO": "unsorted"},
        "SQ": alignments[0].header.to_dict()["SQ"],
        "RG": [{"ID": sample, "SM": sample, "PL": "ILLUMINA"}],
    }
)
with tempfile.TemporaryDirectory(dir=snakemake.resources.tmpdir) as folder:
    unsorted = str(Path(folder) / "unsorted.bam")
    with pysam.AlignmentFile(unsorted, "wb", header=header) as handle:
        for record in alignments:
            record.set_tag("RG", sample)
            handle.write(record)
    # --no-PG: the header must not hold the command, which names a temporary folder.
    pysam.sort("--no-PG", "-@", str(snakemake.threads), "-o", snakemake.output.bam, unsorted)
pysam.index(snakemake.output.bam, snakemake.output.bai)
mapped = sum(1 for record in alignments if not (record.is_unmapped or record.is_supplementary))
log.info("%d reads, %d mapped", len(reads), mapped)
