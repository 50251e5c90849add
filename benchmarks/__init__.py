"""Measurements, each run with `python -m benchmarks.NAME`; `--short` only shows that it still works."""

from __future__ import annotations

import argparse


def sizes(description: str | None, **defaults: tuple[int, int]) -> argparse.Namespace:
    """The options of a benchmark: for each size its full and its short value, and `short` itself."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="small sizes: does it still work?")
    for name, (full, short) in defaults.items():
        parser.add_argument(f"--{name}", type=int, help=f"default: {full}, with --short {short}")
    options = parser.parse_args()
    for name, (full, short) in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, short if options.short else full)
    return options
