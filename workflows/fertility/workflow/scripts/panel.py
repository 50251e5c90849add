"""What the scripts of this workflow share: finding data, choosing rows, naming things, keeping a log."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

# The predictors, and the units in which a reader can picture their effect.
UNITS = {
    "income": "children per woman for each doubling of GDP per head",
    "longevity": "children per woman for each ten years of life expectancy",
}

SUBSAHARAN = ("Eastern Africa", "Middle Africa", "Southern Africa", "Western Africa")

# The UN's regions, gathered into groups large enough to compare.
GROUPS = {
    "Sub-Saharan Africa": SUBSAHARAN,
    "North Africa, Western Asia": ("Northern Africa", "Western Asia"),
    "South, Central Asia": ("Southern Asia", "Central Asia"),
    "East, South-East Asia": ("Eastern Asia", "South-eastern Asia"),
    "Latin America, Caribbean": ("South America", "Central America", "Caribbean"),
    "Europe, N. America, Oceania": (
        "Northern Europe",
        "Southern Europe",
        "Western Europe",
        "Eastern Europe",
        "Northern America",
        "Australia and New Zealand",
        "Melanesia",
        "Micronesia",
        "Polynesia",
    ),
}


def package_file(package: str, path: str) -> Path:
    """A data file of an installed package, found without importing the package."""
    return Path(str(distribution(package).locate_file(path)))


def log_to(path: str) -> logging.Logger:
    """A logger that writes to the rule's log file, without times, so that logs can be compared."""
    logging.basicConfig(filename=path, filemode="w", level=logging.INFO, format="%(levelname)s %(message)s")
    log = logging.getLogger("fertility")

    def failed(kind: Any, error: Any, trace: Any) -> None:
        log.error("failed", exc_info=(kind, error, trace))
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = failed  # so that the log of a failed job says why
    return log


def group_of(un_region: str) -> str:
    """The group in GROUPS that a region of the UN belongs to."""
    for group, regions in GROUPS.items():
        if un_region in regions:
            return group
    raise KeyError(f"no group holds the region {un_region!r}")


def select(panel: Any, sample: str) -> Any:
    """The rows of the panel that a specification's sample names."""
    if sample == "all":
        return panel
    if sample == "not_oecd":
        return panel[~panel["oecd"]]
    if sample == "not_subsaharan":
        return panel[panel["group"] != "Sub-Saharan Africa"]
    if sample.startswith("until_"):
        return panel[panel["year"] <= int(sample.removeprefix("until_"))]
    if sample.startswith("from_"):
        return panel[panel["year"] >= int(sample.removeprefix("from_"))]
    raise ValueError(f"specs.tsv names a sample that panel.py does not know: {sample!r}")
