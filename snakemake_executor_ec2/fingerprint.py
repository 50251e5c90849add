"""What makes one submission the same as another: rule, code, parameters, inputs, outputs.

A job that an earlier run left on a machine is only taken over by one with the same fingerprint.
Left out on purpose: what does not change the result (memory, threads, options of Snakemake, the
number of the attempt), so that another `--jobs` or a retry does not throw days of work away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def fingerprint(jobs: Iterable[Any]) -> str:
    """Of the jobs of one submission (a job alone, or a group's), as Snakemake has them."""
    facts = sorted(json.dumps(_facts(job), sort_keys=True, default=str) for job in jobs)
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()


def sizes_and_times(paths: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Size and modification time (ns) of what is there; symlinks themselves, not what they lead to."""
    found = {}
    for path in paths:
        try:
            stat = path.lstat()
        except OSError:
            continue
        found[str(path)] = (stat.st_size, stat.st_mtime_ns)
    return found


def unchanged(landed: Mapping[str, tuple[int, int]]) -> bool:
    """Whether all files are still as they were."""
    return sizes_and_times(map(Path, landed)) == dict(landed)


def _facts(job: Any) -> dict[str, Any]:
    rule = job.rule
    script = rule.script or rule.notebook
    return {
        "rule": rule.name,
        "wildcards": dict(job.wildcards_dict),
        "shell": job.shellcmd if rule.shellcmd is not None else None,
        "script": _content(script, rule),
        "run": rule.run_func_src if rule.is_run else None,
        "params": [repr(value) for value in job.params],
        "output": [str(file) for file in job.output],
        "input": sizes_and_times(Path(str(file)) for file in job.input),
    }


def _content(script: Any, rule: Any) -> str | None:
    if not script:
        return None
    try:
        path = Path(str(rule.basedir.join(script).get_path_or_uri(secret_free=True)).removeprefix("file://"))
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, AttributeError):
        return str(script)  # with wildcards, or from somewhere else
