rule genomes:
    """Take the two genomes out of the installed package: the locus of one, the whole of the other."""
    output:
        reference="results/genomes/reference.fa",
        donor="results/genomes/donor.fa",
    log:
        "logs/genomes.log",
    benchmark:
        "benchmarks/genomes.tsv"
    params:
        genomes=config["genomes"],
        length=LENGTH,
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/genomes.py"


rule index_reference:
    """Build the FM-index that BWA searches."""
    input:
        reference="results/genomes/reference.fa",
    output:
        directory("results/genomes/bwa_index"),
    log:
        "logs/index_reference.log",
    benchmark:
        "benchmarks/index_reference.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        disk_mb=4000,
        runtime=10,
    script:
        "../scripts/index_reference.py"


rule align_genomes:
    """Map the whole donor genome to the reference in tiles."""
    input:
        index="results/genomes/bwa_index",
        donor="results/genomes/donor.fa",
    output:
        bam=temp("results/genomes/tiles.bam"),
    log:
        "logs/align_genomes.log",
    benchmark:
        "benchmarks/align_genomes.tsv"
    params:
        tile=config["locus"]["tile"],
    threads: 4
    resources:
        mem_mb=8000,
        disk_mb=8000,
        runtime=20,
    script:
        "../scripts/align_genomes.py"


rule truth:
    """Where the two strains differ, where that is certain, and the donor's own sequence of the locus."""
    input:
        bam="results/genomes/tiles.bam",
        reference="results/genomes/reference.fa",
        donor="results/genomes/donor.fa",
    output:
        vcf=protected("results/truth/truth.vcf"),
        bed="results/truth/confident.bed",
        locus="results/truth/donor_locus.fa",
    log:
        "logs/truth.log",
    benchmark:
        "benchmarks/truth.tsv"
    params:
        tile=config["locus"]["tile"],
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=1000,
        runtime=10,
    script:
        "../scripts/truth.py"
