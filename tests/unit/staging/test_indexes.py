"""Which indexes belong to an input."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.staging.indexes import indexes


@pytest.mark.parametrize(
    ("file", "index"),
    [
        *(("genome.fa", f"genome.fa{s}") for s in (".fai", ".amb", ".ann", ".bwt", ".pac", ".sa")),
        ("genome.fa", "genome.dict"),
        ("genome.fasta", "genome.fasta.rev.2.bt2"),
        ("genome.fna", "genome.fna.nhr"),
        ("genome.fa.gz", "genome.fa.gz.gzi"),
        ("genome.fa.gz", "genome.fa.gz.fai"),
        ("genome.fa.gz", "genome.fa.gz.bwt"),
        ("genome.fa.gz", "genome.dict"),
        ("A.bam", "A.bam.bai"),
        ("A.bam", "A.bai"),
        ("A.BAM", "A.BAM.csi"),
        ("A.cram", "A.cram.crai"),
        ("calls.vcf.gz", "calls.vcf.gz.tbi"),
        ("genes.bed.bgz", "genes.bed.bgz.csi"),
        ("calls.bcf", "calls.bcf.csi"),
    ],
)
def test_an_index_belongs_to_the_file_that_it_is_named_after(tmp_path: Path, file: str, index: str) -> None:
    """As tools look for it, and nothing else that is beside the file."""
    for name in (file, index, f"{file}.bak", f"{file}.txt", "other.fa.fai", "notes.bai"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.bam.bai").mkdir()

    assert indexes([tmp_path / file]) == [tmp_path / index]


@pytest.mark.parametrize("file", ["table.csv", "A.bam", "missing.fa", "reads.fq", "."])
def test_files_without_an_index_bring_nothing(tmp_path: Path, file: str) -> None:
    """Of most files there are none."""
    (tmp_path / "table.csv.fai").write_text("x")
    (tmp_path / "reads.fq.bai").write_text("x")

    assert indexes([tmp_path / file]) == []
