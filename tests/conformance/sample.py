"""The cross-section of Snakemake's tests that CI runs: small ones, each for something else that can break."""

from __future__ import annotations

SAMPLE: dict[str, str] = {
    "test_config_replacing": "configuration that replaces the workflow's",
    "test_default_resources_mebibytes": "default resources, in a group",
    "test_ensure_checksum_fail": "an output that is not what it should be",
    "test_issue894": "a temp output that nobody reads",
    "test_lazy_resources": "resources from functions that look at files",
    "test_local_import": "modules beside the Snakefile",
    "test_pipes_simple": "pipes between the jobs of a group",
    "test_script_import_snakemake_obj": "scripts",
    "test_symlink_time_handling": "symlinks and their times",
    "test_update_flag_fail": "an updated file is restored when its job fails",
}
