"""Snakemake's tests whose premise is one shared computer, each with its reason."""

from __future__ import annotations

NOT_A_PREMISE: dict[str, str] = {}
