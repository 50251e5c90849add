"""Snakemake's tests whose premise is one shared computer, each with its reason."""

from __future__ import annotations

_QUEUE = (
    "a thread in its Snakefile ends only where its queue is consumed, which only the first Snakemake does"
)
_VARIABLE = "wants an environment variable of this computer where the job runs, which no `envvars:` declares"

ONE_COMPUTER: dict[str, str] = {
    "test_delete_all_output": "its rules run Snakemake on their own, over an undeclared input",
    "test_github_issue806": "rules read files that a checkpoint makes without declaring them as its output",
    "test_github_issue_14": "looks for a script in `.snakemake` here that Snakemake makes where the job runs",
    "test_groupid_expand_local": "expects the group ID `local`, which only the local executor gives",
    "test_priority": "its jobs append to one file that none of them declares",
    "test_profile_filename": _VARIABLE,
    "test_profile_new": _VARIABLE,
    "test_profile_old": _VARIABLE,
    "test_queue_input": _QUEUE,
    "test_queue_input_forceall": _QUEUE,
}
