rule estimate:
    """Estimate one specification; errors are clustered by country."""
    input:
        panel="results/panel.csv",
    output:
        "results/estimates/{spec}.csv",
    log:
        "logs/estimate/{spec}.log",
    benchmark:
        "benchmarks/estimate/{spec}.tsv"
    params:
        spec=lambda wildcards: SPECS[wildcards.spec],
        level=config["level"],
    threads: 1
    resources:
        mem_mb=4000,
        disk_mb=2000,
        runtime=10,
    script:
        "../scripts/estimate.py"


rule bootstrap:
    """Resample whole countries to check the clustered interval of the main specification."""
    input:
        panel="results/panel.csv",
    output:
        f"results/bootstrap/{config['main_spec']}.csv",
    log:
        "logs/bootstrap.log",
    benchmark:
        "benchmarks/bootstrap.tsv"
    params:
        spec=SPECS[config["main_spec"]],
        level=config["level"],
        replicates=config["bootstrap"]["replicates"],
        seed=config["bootstrap"]["seed"],
    threads: 4
    resources:
        mem_mb=8000,
        disk_mb=2000,
        runtime=20,
    script:
        "../scripts/bootstrap.py"


rule collect:
    """Put the estimates under one header, in the order of the sheet."""
    input:
        expand("results/estimates/{spec}.csv", spec=SPECS),
    output:
        "results/tables/estimates.csv",
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
