"""Unweighted means of fertility, longevity and income by group of regions and year."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import numpy as np
import pandas as pd
from panel import GROUPS, log_to

log = log_to(snakemake.log[0])
panel = pd.read_csv(snakemake.input.panel)
panel["log_gdp"] = np.log(panel["gdp"])
means = panel.groupby(["group", "year"]).agg(
    countries=("iso3", "nunique"),
    tfr=("tfr", "mean"),
    life_expectancy=("life_expectancy", "mean"),
    log_gdp=("log_gdp", "mean"),
)
means["gdp"] = np.exp(means.pop("log_gdp"))  # the geometric mean: incomes are skewed
means = means.reindex(list(GROUPS), level="group")
means.to_csv(snakemake.output[0], float_format="%.4g")
log.info("%d groups, %d rows", len(GROUPS), len(means))
