"""The demographic transition by group of regions: over time, and against life expectancy."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from panel import log_to

COLOURS = ["#b3541e", "#d69a2d", "#7a8b3c", "#2a8f85", "#6b4c9a", "#1f5f8b"]

log = log_to(snakemake.log[0])
groups = defaultdict(list)
with Path(snakemake.input.by_region).open(newline="") as handle:
    for row in csv.DictReader(handle):
        groups[row["group"]].append((int(row["year"]), float(row["life_expectancy"]), float(row["tfr"])))

mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10})
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
for colour, (group, points) in zip(COLOURS, groups.items(), strict=True):
    years, ages, rates = zip(*points, strict=True)
    left.plot(years, rates, color=colour, lw=1.8, marker="o", ms=3.5, label=group)
    right.plot(ages, rates, color=colour, lw=1.8, marker="o", ms=3.5)
    right.plot(ages[-1], rates[-1], "o", color=colour, ms=8)
for axis in (left, right):
    axis.axhline(2.1, color="0.35", lw=0.9, ls=(0, (4, 3)), zorder=1)
    axis.grid(color="0.9", lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
left.set_ylim(1, 7.5)
left.set_ylabel("children per woman")
left.set_xlabel("year")
left.set_title("Over time", loc="left", fontweight="bold")
right.set_xlabel("life expectancy at birth (years)")
right.set_title("Against life expectancy (large dot: 2007)", loc="left", fontweight="bold")
right.text(right.get_xlim()[0] + 0.5, 2.13, "replacement, 2.1", fontsize=8, color="0.35", va="bottom")
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure.savefig(snakemake.output[0], dpi=150, metadata={"Software": None})
log.info("%d groups", len(groups))
