rule prepare:
    """Read one table out of the installed package that ships it, and tidy it."""
    output:
        "results/tables/{table}.csv",
    log:
        "logs/prepare/{table}.log",
    benchmark:
        "benchmarks/prepare/{table}.tsv"
    params:
        first=config["years"]["first"],
        last=config["years"]["last"],
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/prepare.py"


rule join:
    """Match countries by name to ISO codes, then join the three tables by country and year."""
    input:
        income="results/tables/income.csv",
        fertility="results/tables/fertility.csv",
        regions="results/tables/regions.csv",
    output:
        panel="results/panel.csv",
        unmatched="results/tables/unmatched.csv",
    log:
        "logs/join.log",
    benchmark:
        "benchmarks/join.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/join.py"


rule describe:
    """Means by region and year, for the text and for the second figure."""
    input:
        panel=rules.join.output.panel,
    output:
        "results/tables/by_region.csv",
    log:
        "logs/describe.log",
    benchmark:
        "benchmarks/describe.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/describe.py"
