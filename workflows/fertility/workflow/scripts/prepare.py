"""Read one of the three source tables out of the package that ships it, and write it tidy."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import pandas as pd
from panel import log_to, package_file

log = log_to(snakemake.log[0])
first, last = snakemake.params.first, snakemake.params.last


def income() -> pd.DataFrame:
    """Gapminder: life expectancy, population and GDP per head, one row per country and fifth year."""
    table = pd.read_csv(package_file("gapminder", "gapminder/gapminder.csv"))
    table = table.rename(columns={"lifeExp": "life_expectancy", "pop": "population", "gdpPercap": "gdp"})
    return table.drop(columns="continent")


def fertility() -> pd.DataFrame:
    """World Bank: the total fertility rate, from one column per year to one row per country and year."""
    wide = pd.read_csv(package_file("statsmodels", "statsmodels/datasets/fertility/fertility.csv"))
    wide = wide.rename(columns={"Country Code": "iso3"}).drop(
        columns=["Country Name", "Indicator Name", "Indicator Code"]
    )
    long = wide.melt(id_vars="iso3", var_name="year", value_name="tfr").dropna()
    return long.astype({"year": int}).sort_values(["iso3", "year"])


def regions() -> pd.DataFrame:
    """country_converter: each country's ISO code, UN region, year of joining the OECD, and name pattern."""
    table = pd.read_csv(
        package_file("country-converter", "country_converter/country_data.tsv"),
        sep="\t",
        keep_default_na=False,
        dtype=str,
    )
    table = table[table["UNregion"] != ""]
    return table[["ISO3", "regex", "UNregion", "OECD"]].rename(
        columns={"ISO3": "iso3", "regex": "pattern", "UNregion": "un_region", "OECD": "oecd_since"}
    )


table = {"income": income, "fertility": fertility, "regions": regions}[snakemake.wildcards.table]()
if "year" in table:
    table = table[table["year"].between(first, last)]
table.to_csv(snakemake.output[0], index=False)
log.info("%s: %d rows, columns %s", snakemake.wildcards.table, len(table), ", ".join(table.columns))
