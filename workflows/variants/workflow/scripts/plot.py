"""Accuracy by sample, and where along the locus variants were found and missed."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from genome import log_to

BIN = 5000
PRECISION, RECALL, MISSED, WRONG = "#2a8f85", "#1f5f8b", "#c77d0a", "#a3262a"

log = log_to(snakemake.log[0])


def read(path: str) -> list[dict[str, str]]:
    """The rows of a tab-separated table."""
    with Path(path).open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


accuracy = read(snakemake.input.accuracy)
sites = dict(zip(snakemake.params.samples, map(read, snakemake.input.sites), strict=True))
order = sorted(accuracy, key=lambda row: (float(row["recall"]), row["sample"]))
rows = range(len(order))

mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10})
figure, ((corner, density), (scores, errors)) = plt.subplots(
    2, 2, figsize=(10, 4.8), width_ratios=(1, 1.9), height_ratios=(1, 1.9), layout="constrained"
)
corner.set_axis_off()

# Every sample is held to the same truth, so any one of them tells where the true variants are.
bins = range(0, snakemake.params.length, BIN)
heights = [0] * len(bins)
for site in sites[order[0]["sample"]]:
    if site["kind"] != "wrong":
        heights[(int(site["position"]) - 1) // BIN] += 1
density.bar([(low + BIN / 2) / 1000 for low in bins], heights, width=BIN / 1000 * 0.9, color="0.6")
density.set_title("True variants per 5,000 bases", loc="left", fontweight="bold")
density.sharex(errors)
density.tick_params(labelbottom=False)

for y, row in enumerate(order):
    scores.plot([float(row["recall"]), float(row["precision"])], [y, y], color="0.8", lw=2, zorder=1)
    label = f"{row['found']} of {row['true']} found, {row['wrong']} wrong"
    scores.text(
        0.03, y - 0.2, label, transform=scores.get_yaxis_transform(), va="top", fontsize=7.5, color="0.35"
    )
for measure, marker, colour in (("precision", "D", PRECISION), ("recall", "o", RECALL)):
    values = [float(row[measure]) for row in order]
    scores.plot(values, rows, marker, color=colour, label=measure, ms=7, zorder=3)
lowest = min(float(row[measure]) for row in order for measure in ("precision", "recall"))
scores.set_xlim(lowest - 0.1 * (1.001 - lowest), 1 + 0.1 * (1.001 - lowest))
scores.set_yticks(rows, [f"{row['sample']}, {float(row['mean_depth']):.0f}×" for row in order])
scores.set_title("Precision and recall", loc="left", fontweight="bold")
scores.set_xlabel("share of variants")
scores.locator_params(axis="x", nbins=5)

for y, row in enumerate(order):
    for kind, colour in (("missed", MISSED), ("wrong", WRONG)):
        places = [int(site["position"]) / 1000 for site in sites[row["sample"]] if site["kind"] == kind]
        errors.vlines(places, y - 0.28, y + 0.28, color=colour, lw=1.3, label=kind if y == 0 else None)
errors.set_yticks(rows, [row["sample"] for row in order])
errors.set_xlim(0, snakemake.params.length / 1000)
errors.set_title("Where variants were missed or wrongly called", loc="left", fontweight="bold")
errors.set_xlabel("position in the reference (thousand bases)")

for axis in (scores, errors):
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.grid(axis="x", color="0.9", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
for axis in (density, scores, errors):
    axis.spines[["top", "right"]].set_visible(False)
handles = [*scores.get_legend_handles_labels()[0], *errors.get_legend_handles_labels()[0]]
corner.legend(handles=handles, loc="upper left", frameon=False, ncols=2, borderaxespad=0)
figure.savefig(snakemake.output[0], dpi=150, metadata={"Software": None})
log.info("%d samples", len(sites))
