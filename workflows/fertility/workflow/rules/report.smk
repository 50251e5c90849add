rule plot_specification_curve:
    """Every estimate with its interval, above the choices that produced it."""
    input:
        estimates="results/tables/estimates.csv",
        specs=config["specs"],
    output:
        "results/figures/specification_curve.png",
    log:
        "logs/plot_specification_curve.log",
    benchmark:
        "benchmarks/plot_specification_curve.tsv"
    params:
        main=config["main_spec"],
        level=config["level"],
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/plot_specification_curve.py"


rule plot_transition:
    """The fall of fertility by region, over time and against life expectancy."""
    input:
        by_region="results/tables/by_region.csv",
    output:
        "results/figures/transition.png",
    log:
        "logs/plot_transition.log",
    benchmark:
        "benchmarks/plot_transition.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/plot_transition.py"


rule report:
    """The tables that a reader wants first, in Markdown."""
    input:
        estimates="results/tables/estimates.csv",
        specs=config["specs"],
        bootstrap=rules.bootstrap.output[0],
        by_region="results/tables/by_region.csv",
        unmatched="results/tables/unmatched.csv",
    output:
        "results/report.md",
    log:
        "logs/report.log",
    benchmark:
        "benchmarks/report.tsv"
    params:
        main=config["main_spec"],
        level=config["level"],
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=1000,
        runtime=5,
    script:
        "../scripts/report.py"
