"""Estimate one row of specs.tsv by least squares with errors clustered by country."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from panel import log_to, select

EFFECTS = {
    "none": [],
    "region": ["C(un_region)"],
    "year": ["C(year)"],
    "country": ["C(iso3)"],
    "country+year": ["C(iso3)", "C(year)"],
    "country+region:year": ["C(iso3)", "C(group):C(year)"],
}

log = log_to(snakemake.log[0])
spec = snakemake.params.spec
panel = pd.read_csv(snakemake.input.panel)
panel["income"] = np.log2(panel["gdp"])
panel["longevity"] = panel["life_expectancy"] / 10
predictors = spec["predictors"].split("+")

if lag := int(spec["lag"]):
    earlier = panel[["iso3", "year", *predictors]].assign(year=panel["year"] + lag)
    panel = panel.drop(columns=predictors).merge(earlier, on=["iso3", "year"], validate="one_to_one")
sample = select(panel, spec["sample"]).reset_index(drop=True)

formula = "tfr ~ " + " + ".join([*predictors, *EFFECTS[spec["fixed_effects"]]])
if spec["weights"] == "population":
    model = smf.wls(formula, sample, weights=sample["population"] / sample["population"].mean())
else:
    model = smf.ols(formula, sample)
fit = model.fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(sample["iso3"])[0]})

interval = fit.conf_int(alpha=1 - snakemake.params.level)
rows = [
    {
        "spec": spec["spec"],
        "predictor": name,
        "coefficient": fit.params[name],
        "std_error": fit.bse[name],
        "low": interval.loc[name, 0],
        "high": interval.loc[name, 1],
        "observations": int(fit.nobs),
        "countries": sample["iso3"].nunique(),
        "r_squared": fit.rsquared,
    }
    for name in predictors
]
pd.DataFrame(rows).to_csv(snakemake.output[0], index=False, float_format="%.5g")
log.info("%s on %d rows", formula, len(sample))
