"""Bootstrap the two-way specification by drawing whole countries with replacement.

Taking out a country's mean touches only its own rows, so each country's share of the normal equations
is worked out once; a replicate is then a weighted sum of those shares and one small linear system.
The work is cut into a fixed number of blocks with seeds of their own: the threads change only the speed.
"""
# ruff: noqa: F821 (Snakemake defines "snakemake")

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from panel import log_to

BLOCKS = 20

log = log_to(snakemake.log[0])
spec = snakemake.params.spec
if spec["fixed_effects"] != "country+year" or spec["sample"] != "all" or spec["weights"] != "none":
    raise ValueError("the bootstrap is written for the unweighted two-way specification on all countries")
predictors = spec["predictors"].split("+")

panel = pd.read_csv(snakemake.input.panel)
panel["income"] = np.log2(panel["gdp"])
panel["longevity"] = panel["life_expectancy"] / 10
columns = pd.concat([panel[predictors], pd.get_dummies(panel["year"], drop_first=True, dtype=float)], axis=1)
columns = columns.assign(tfr=panel["tfr"])
within = (columns - columns.groupby(panel["iso3"]).transform("mean")).to_numpy()
country = pd.factorize(panel["iso3"])[0]
count = country.max() + 1
shares = np.stack([within[country == c].T @ within[country == c] for c in range(count)])


def solve(weights: np.ndarray) -> np.ndarray:
    """The coefficients of the predictors when each country is taken as often as its weight says."""
    moments = np.tensordot(weights, shares, axes=(1, 0))
    return np.linalg.solve(moments[:, :-1, :-1], moments[:, :-1, -1:])[:, : len(predictors), 0]


def block(seed: np.random.SeedSequence) -> np.ndarray:
    """One block of replicates, from its own seed."""
    draws = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), size=snakemake.params.replicates // BLOCKS
    )
    return solve(draws.astype(float))


seeds = np.random.SeedSequence(snakemake.params.seed).spawn(BLOCKS)
with ThreadPoolExecutor(snakemake.threads) as pool:
    draws = np.concatenate(list(pool.map(block, seeds)))
point = solve(np.ones((1, count)))[0]

tail = (1 - snakemake.params.level) / 2
low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
table = pd.DataFrame(
    {
        "predictor": predictors,
        "coefficient": point,
        "std_error": draws.std(axis=0, ddof=1),
        "low": low,
        "high": high,
        "replicates": len(draws),
    }
)
table.to_csv(snakemake.output[0], index=False, float_format="%.5g")
log.info("%d replicates of %d countries", len(draws), count)
