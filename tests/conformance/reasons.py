"""Snakemake's tests whose premise is one shared computer, each with its reason."""

from __future__ import annotations

NOT_A_PREMISE: dict[str, str] = {
    "test_delete_all_output": "its rules run Snakemake on their own, over an undeclared input",
    "test_github_issue806": "rules read files that a checkpoint makes without declaring them as its output",
    "test_github_issue_14": "looks for a script in `.snakemake` here that Snakemake makes where the job runs",
    "test_groupid_expand_local": "expects the group ID `local`, which only the local executor gives",
}
