rule evaluate:
    """Compare one sample with the truth, inside the confident regions."""
    input:
        truth="results/truth/truth.vcf",
        bed="results/truth/confident.bed",
        calls="results/calls/{sample}.vcf.gz",
        coverage="results/coverage/{sample}.tsv",
    output:
        counts="results/evaluation/{sample}.tsv",
        sites="results/evaluation/{sample}.sites.tsv",
    log:
        "logs/evaluate/{sample}.log",
    benchmark:
        "benchmarks/evaluate/{sample}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/evaluate.py"


rule collect:
    """Put the samples under one header, in the order of the sheet."""
    input:
        expand("results/evaluation/{sample}.tsv", sample=SAMPLES),
    output:
        "results/accuracy.tsv",
    log:
        "logs/collect.log",
    benchmark:
        "benchmarks/collect.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    shell:
        "(head -n 1 {input[0]:q} && tail -q -n +2 {input:q}) > {output:q} 2> {log:q}"


rule check_thresholds:
    """Fail, naming the sample, if precision or recall is below what the configuration asks for."""
    input:
        accuracy="results/accuracy.tsv",
    output:
        "results/thresholds.passed",
    log:
        "logs/check_thresholds.log",
    benchmark:
        "benchmarks/check_thresholds.tsv"
    params:
        thresholds=config["thresholds"],
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/check_thresholds.py"


rule plot:
    """Accuracy by sample, and where along the locus variants were found and missed."""
    input:
        accuracy="results/accuracy.tsv",
        sites=expand("results/evaluation/{sample}.sites.tsv", sample=SAMPLES),
    output:
        "results/figures/accuracy.png",
    log:
        "logs/plot.log",
    benchmark:
        "benchmarks/plot.tsv"
    params:
        samples=list(SAMPLES),
        length=LENGTH,
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/plot.py"


rule report:
    """The table that a reader wants first, in Markdown."""
    input:
        accuracy="results/accuracy.tsv",
        truth="results/truth/truth.vcf",
        bed="results/truth/confident.bed",
        cohort="results/cohort.vcf.gz",
        passed="results/thresholds.passed",
    output:
        "results/report.md",
    log:
        "logs/report.log",
    benchmark:
        "benchmarks/report.tsv"
    params:
        thresholds=config["thresholds"],
        length=LENGTH,
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/report.py"
