"""Snakemake's tests whose premise is one shared computer, each with its reason."""

from __future__ import annotations

_SNAKEMAKE_INSIDE = (
    "a rule that declares neither input nor output runs a Snakemake of its own, over files that are here"
)

ONE_COMPUTER: dict[str, str] = {
    "test_delete_all_output": "its rules run Snakemake on their own, over an undeclared input",
    "test_github_issue806": "rules read files that a checkpoint makes without declaring them as its output",
    "test_github_issue_14": "looks for a script in `.snakemake` here that Snakemake makes where the job runs",
    "test_groupid_expand_local": "expects the group ID `local`, which only the local executor gives",
    "test_profile_filename": _SNAKEMAKE_INSIDE,
    "test_profile_multiple": _SNAKEMAKE_INSIDE,
    "test_profile_new": _SNAKEMAKE_INSIDE,
    "test_profile_none": _SNAKEMAKE_INSIDE,
    "test_profile_old": _SNAKEMAKE_INSIDE,
    "test_profile_with_env_var": _SNAKEMAKE_INSIDE,
}
