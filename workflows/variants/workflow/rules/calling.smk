rule simulate_reads:
    """Draw reads with sequencing errors from the donor's locus; the seed fixes every base."""
    input:
        locus="results/truth/donor_locus.fa",
    output:
        fastq=temp("results/reads/{sample}.fastq.gz"),
    log:
        "logs/simulate_reads/{sample}.log",
    benchmark:
        "benchmarks/simulate_reads/{sample}.tsv"
    params:
        depth=lambda wildcards: float(SAMPLES[wildcards.sample]["depth"]),
        error_rate=lambda wildcards: float(SAMPLES[wildcards.sample]["error_rate"]),
        length=config["reads"]["length"],
        seed=config["reads"]["seed"],
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=2000,
        runtime=5,
    script:
        "../scripts/simulate_reads.py"


rule align:
    """Map the reads with BWA-MEM; sort and index the alignments."""
    input:
        index="results/genomes/bwa_index",
        fastq="results/reads/{sample}.fastq.gz",
    output:
        bam="results/aligned/{sample}.bam",
        bai="results/aligned/{sample}.bam.bai",
    log:
        "logs/align/{sample}.log",
    benchmark:
        "benchmarks/align/{sample}.tsv"
    threads: 2
    resources:
        mem_mb=4000,
        disk_mb=4000,
        runtime=10,
    script:
        "../scripts/align.py"


rule coverage:
    """Depth and mapping statistics of one sample."""
    input:
        bam="results/aligned/{sample}.bam",
        bai="results/aligned/{sample}.bam.bai",
    output:
        "results/coverage/{sample}.tsv",
    log:
        "logs/coverage/{sample}.log",
    benchmark:
        "benchmarks/coverage/{sample}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=2000,
        runtime=5,
    script:
        "../scripts/coverage.py"


rule call:
    """Call single-base variants in one window from the pileup of the reads."""
    input:
        bam="results/aligned/{sample}.bam",
        bai="results/aligned/{sample}.bam.bai",
        reference="results/genomes/reference.fa",
    output:
        vcf=temp("results/calls/{sample}/{window}.vcf"),
    log:
        "logs/call/{sample}/{window}.log",
    benchmark:
        "benchmarks/call/{sample}/{window}.tsv"
    params:
        calling=config["calling"],
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=2000,
        runtime=10,
    script:
        "../scripts/call.py"


rule merge_windows:
    """Put the windows of one sample together; compress and index."""
    input:
        vcfs=expand("results/calls/{{sample}}/{window}.vcf", window=WINDOWS),
    output:
        vcf="results/calls/{sample}.vcf.gz",
        tbi="results/calls/{sample}.vcf.gz.tbi",
    log:
        "logs/merge_windows/{sample}.log",
    benchmark:
        "benchmarks/merge_windows/{sample}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/merge_windows.py"


rule merge_samples:
    """One table of variants for all samples, with a genotype each."""
    input:
        vcfs=expand("results/calls/{sample}.vcf.gz", sample=SAMPLES),
        tbis=expand("results/calls/{sample}.vcf.gz.tbi", sample=SAMPLES),
    output:
        vcf="results/cohort.vcf.gz",
        tbi="results/cohort.vcf.gz.tbi",
    log:
        "logs/merge_samples.log",
    benchmark:
        "benchmarks/merge_samples.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=2000,
        runtime=5,
    script:
        "../scripts/merge_samples.py"
