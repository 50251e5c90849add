"""Join income, fertility and regions by country and year, and list the countries that fell out."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import re

import pandas as pd
from panel import group_of, log_to

log = log_to(snakemake.log[0])
income = pd.read_csv(snakemake.input.income)
fertility = pd.read_csv(snakemake.input.fertility)
regions = pd.read_csv(snakemake.input.regions, keep_default_na=False)

# Gapminder has names only ("Korea, Dem. Rep."), so each is matched to the one pattern that fits it.
patterns = [
    (re.compile(p, re.IGNORECASE), iso3) for p, iso3 in zip(regions["pattern"], regions["iso3"], strict=True)
]
codes, unmatched = {}, []
for country in sorted(income["country"].unique()):
    hits = sorted({iso3 for pattern, iso3 in patterns if pattern.search(country)})
    if len(hits) == 1:
        codes[country] = hits[0]
    else:
        unmatched.append((country, "no country code fits the name" if not hits else f"several codes: {hits}"))
if len(set(codes.values())) != len(codes):
    raise ValueError("two names in Gapminder were given the same country code")

panel = income.assign(iso3=income["country"].map(codes)).dropna(subset="iso3")
panel = panel.merge(regions.drop(columns="pattern"), on="iso3", how="left", validate="many_to_one")
panel = panel.merge(fertility, on=["iso3", "year"], how="left", validate="one_to_one")

absent = panel.groupby("country")["tfr"].apply(lambda values: values.isna().all())
unmatched += [(country, "no fertility rate at the World Bank") for country in absent.index[absent]]
panel = panel.dropna(subset="tfr")

panel["group"] = panel["un_region"].map(group_of)
panel["oecd"] = pd.to_numeric(panel["oecd_since"]).le(panel["year"])
columns = [
    "iso3",
    "country",
    "un_region",
    "group",
    "oecd",
    "year",
    "tfr",
    "gdp",
    "life_expectancy",
    "population",
]
panel = panel[columns].sort_values(["iso3", "year"])
panel.to_csv(snakemake.output.panel, index=False)
pd.DataFrame(unmatched, columns=["country", "reason"]).to_csv(snakemake.output.unmatched, index=False)
log.info("%d rows, %d countries; %d fell out", len(panel), panel["iso3"].nunique(), len(unmatched))
