"""Every estimate with its interval, largest effect first, for each of the two predictors."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from panel import log_to

TITLES = {
    "income": "Income: per doubling of GDP per head",
    "longevity": "Longevity: per ten years of life expectancy",
}
COLOURS = {"income": "#b3541e", "longevity": "#1f5f8b"}

log = log_to(snakemake.log[0])
with Path(snakemake.input.specs).open(newline="") as handle:
    labels = {row["spec"]: row["label"] for row in csv.DictReader(handle, delimiter="\t")}
with Path(snakemake.input.estimates).open(newline="") as handle:
    estimates = list(csv.DictReader(handle))

mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10})
order = list(labels)[::-1]
figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharex=True, sharey=True, layout="constrained")
for axis, (predictor, title) in zip(axes, TITLES.items(), strict=True):
    colour = COLOURS[predictor]
    for row in (row for row in estimates if row["predictor"] == predictor):
        y, x = order.index(row["spec"]), float(row["coefficient"])
        low, high = float(row["low"]), float(row["high"])
        sure = low > 0 or high < 0
        main = row["spec"] == snakemake.params.main
        axis.plot(
            [low, high], [y, y], color=colour, lw=2.6 if main else 1.4, solid_capstyle="round", zorder=2
        )
        axis.plot(x, y, "o", color=colour, mfc=colour if sure else "white", ms=7.5 if main else 5.5, zorder=3)
    axis.axvline(0, color="0.25", lw=0.9, zorder=1)
    axis.axhspan(
        order.index(snakemake.params.main) - 0.5,
        order.index(snakemake.params.main) + 0.5,
        color="0.93",
        zorder=0,
    )
    axis.set_title(title, loc="left", color=colour, fontweight="bold")
    axis.set_xlabel("change in children per woman")
    axis.grid(axis="x", color="0.88", lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
axes[0].set_yticks(range(len(order)), [labels[spec] for spec in order])
axes[0].set_ylim(-0.6, len(order) - 0.4)
figure.suptitle(
    f"Fertility and development in {len(order)} specifications",
    x=0.005,
    ha="left",
    fontsize=12,
    fontweight="bold",
)
figure.supxlabel(
    f"Lines: {snakemake.params.level:.0%} intervals clustered by country. "
    "Filled: interval excludes zero. Shaded: main specification.",
    fontsize=8,
    color="0.35",
    x=0.005,
    ha="left",
)
figure.savefig(snakemake.output[0], dpi=150, metadata={"Software": None})
log.info("%d estimates of %d specifications", len(estimates), len(labels))
