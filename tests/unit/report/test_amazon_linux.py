"""Which programs a command calls, and what is told of those that the image lacks."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.report.amazon_linux import PACKAGES, THERE, programs_in, sentence


@pytest.mark.parametrize(
    ("command", "called"),
    [
        ("bwa mem -t 4 ref.fa x.fq | samtools sort -o out.bam -", ["bwa", "samtools"]),
        (
            "set -e; mkdir -p out && OMP_NUM_THREADS=2 mafft --auto x > y || exit 1",
            ["set", "mkdir", "mafft", "exit"],
        ),
        ("for f in bwa samtools; do gzip $f; done", ["for", "gzip", "done"]),
        ("if test -e x; then make; else git status; fi", ["test", "make", "git", "fi"]),
        ("a\\\n  -b c\nd e", ["a", "d"]),
        ('echo "$(bcftools view x | wc -l)" `bedtools -v`', ["bcftools", "wc", "bedtools", "echo"]),
        ("timeout 10 nice -n 5 env LC_ALL=C Rscript x.R", ["timeout", "nice", "env", "Rscript"]),
        ("ls *.fq | xargs -n 1 -P 4 fastqc", ["ls", "xargs", "fastqc"]),
        ("bash -c 'seqtk seq x | head'", ["bash", "seqtk", "head"]),
        ("/usr/bin/gcc -O2 x.c", ["gcc"]),
        ("cat <<EOF > x\nmake me\nEOF\ngit log", ["cat", "git"]),
        ("awk '{print $1; make}' x", ["awk"]),
        ("echo 'not closed", []),
        ("", []),
    ],
)
def test_words_in_the_places_of_commands(command: str, called: list[str]) -> None:
    """And no argument, quoted text or file."""
    found = list(programs_in(command))
    assert [name for name in found if name != "exec"] == called


def test_the_sentence_names_rules_and_ways() -> None:
    """A package only if its name is known."""
    said = sentence({"bwa": ["align", "index"], "Rscript": ["plot"], "R": ["plot"]})
    assert "R (rule plot), Rscript (rule plot), bwa (rule align, index)" in said
    assert "`sudo dnf -y install R-core` in an --ec2-setup script" in said
    assert said.endswith("for bwa.")


def test_nothing_is_there_and_to_be_installed() -> None:
    """What the executor tells to install is not also said to be in the image."""
    assert not THERE & PACKAGES.keys()
    assert {"bash", "python3", "awk", "jq", "aws"} <= THERE
    assert not {"git", "gcc", "make", "Rscript", "bwa", "samtools"} & THERE
