"""Snakemake's tests whose premise is one shared computer or another plugin, each with its reason."""

from __future__ import annotations

_QUEUE = (
    "a thread in its Snakefile ends only where its queue is consumed, which only the first Snakemake does"
)
_SUBMIT_LOG = "counts the lines in the log of its own submit script, which only `cluster-generic` runs"
_SHARED = "its storage `fs` is a folder that every computer sees: refused before a launch, with this reason"
_IMMEDIATE = "`--immediate-submit` wants a cluster's queue: refused before a launch, with this reason"
_QUOTES = "wants the quotes of a shell's command line around an option; machines get options as a list"
_GPU = "asks for a GPU that EC2 does not have: refused before a launch, with this reason"

ONE_COMPUTER: dict[str, str] = {
    "test_access_patterns": _SHARED,
    "test_checkpoint_open": _SHARED,
    "test_checkpoint_running_job_storage_race": _SHARED,
    "test_delete_temp_fs": _SHARED,
    "test_github_issue806": "rules read files that a checkpoint makes without declaring them as its output",
    "test_github_issue_14": "looks for a script in `.snakemake` here that Snakemake makes where the job runs",
    "test_global_resource_limits_limit_scheduling_of_groups": _SUBMIT_LOG,
    "test_groupid_expand_local": "expects the group ID `local`, which only the local executor gives",
    "test_handle_storage_multi_consumers": _SHARED,
    "test_immediate_submit_without_shared_fs": _IMMEDIATE,
    "test_new_resources_can_be_defined_as_local": _SUBMIT_LOG,
    "test_nodelocal": "looks into the folder that its own submit script mounts as the disk of a node",
    "test_pathvars_storage": _SHARED,
    "test_priority": "its jobs append to one file that none of them declares",
    "test_protected_symlink_output": "reads a file that no rule declares: the job fails, and names it",
    "test_queue_input": _QUEUE,
    "test_queue_input_forceall": _QUEUE,
    "test_resource_prefix_does_not_affect_scope_overwrite": _SUBMIT_LOG,
    "test_resources_can_be_overwritten_as_global": _SUBMIT_LOG,
    "test_scopes_submitted_to_cluster": _QUOTES,
    "test_storage_cleanup_local": _SHARED,
    "test_storage_localrule": _SHARED,
    "test_string_resources": _GPU,
}
