"""What is sent, in words: for `--ec2-show-staging`, and for what was left out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from snakemake_executor_ec2.formatting import size
from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.staging.sources import LIMIT_BYTES, LIMIT_FILES, Reason, Sources
from snakemake_executor_ec2.staging.view import LIMIT_ENTRIES

_LARGEST = 3
"""How many files are named of each kind."""


def of_sources(sources: Sources, workdir: Path) -> str:
    """Number, size and reason of the files that travel with every job, the largest by name."""
    sizes = _sizes(sources.files)
    by_reason: dict[Reason, dict[Path, int]] = defaultdict(dict)
    for path, reason in sources.reasons.items():
        by_reason[reason][path] = sizes[path]
    lines = [f"sent with every job: {_count(sizes)}"]
    lines += [
        f"  {_count(by_reason[reason])}, {reason}: {_largest(by_reason[reason], workdir)}"
        for reason in Reason
        if reason in by_reason
    ]
    if sources.excluded:
        excluded = _sizes(sources.excluded)
        lines.append(f"  left out by --ec2-exclude, {_count(excluded)}: {_largest(excluded, workdir)}")
    return "\n".join(lines)


def of_job(plan: JobPlan, sources: Sources) -> str:
    """Number, size and the largest of the inputs of one job, and of what its rules get as `params`."""
    lines = [f"sent to the machine of {plan.label}: {_described(plan.inputs, 'input', plan.workdir)}"]
    others = set(plan.sources) - set(sources.reasons)
    if others:
        lines.append(f"  and {_described(others, 'params', plan.workdir)}")
    return "\n".join(lines)


def warnings(sources: Sources, workdir: Path) -> list[str]:
    """A sentence for everything that was left out and that the user may have wanted."""
    large = [too_large(path) for path in sources.too_large]
    short = [
        f"{folder} holds more than {LIMIT_FILES} files, which were not all looked at for scripts; name "
        "those that jobs need with --ec2-include"
        for folder in sources.cut_short
    ]
    unmatched = [f"no file in {workdir} matches the pattern {pattern!r}" for pattern in sources.unmatched]
    return large + short + unmatched


def too_large(path: Path) -> str:
    """The sentence for a file that does not travel because of its size."""
    return (
        f"{path} is larger than {LIMIT_BYTES // 10**6} MB and is not sent with the workflow's sources; "
        "declare it as input of the rules that read it, or name it with --ec2-include"
    )


def read_unseen(paths: Sequence[Path], workdir: Path) -> str:
    """The sentence for files that travel because the Snakefile could not be read without them."""
    names = _some([str(_short(path, workdir)) for path in paths])
    return f"also sent with every job, because the Snakefile reads it: {names}"


def beyond_limit(folders: Sequence[str]) -> str:
    """The sentence for folders whose content machines do not see."""
    return (
        f"the working directory holds more than {LIMIT_ENTRIES:,} files and folders: machines are not told "
        f"what is in {_some(folders)}. A shell command that lists one of them fails there, and no file in it "
        "seems to exist. If that matters, move files that are not needed elsewhere"
    )


def listed_beyond_limit(folders: Sequence[str]) -> str:
    """The refusal, if a Snakefile has looked into such folders."""
    return (
        f"the Snakefile lists {_some(folders)}, which machines cannot be told of: the working directory "
        f"holds more than {LIMIT_ENTRIES:,} files and folders. Move what the workflow does not need "
        "elsewhere, or have the names in a file that the Snakefile reads instead"
    )


def secret(name: str) -> str:
    """The sentence for an environment variable that looks like a credential."""
    return (
        f"the Snakefile reads the environment variable {name}, which may be a secret and is not sent to "
        "machines. If jobs need it, declare it in the Snakefile (envvars:) or with --envvars"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:_LARGEST], *(["…"] if len(names) > _LARGEST else [])])


def _described(paths: Iterable[Path], what: str, workdir: Path) -> str:
    sizes = _sizes(paths)
    return f"{_count(sizes)} ({what}): {_largest(sizes, workdir)}" if sizes else f"no {what}"


def _count(sizes: Mapping[Path, int]) -> str:
    return f"{len(sizes)} file{'' if len(sizes) == 1 else 's'} of {size(sum(sizes.values()))}"


def _largest(sizes: Mapping[Path, int], workdir: Path) -> str:
    order = sorted(sizes, key=lambda path: (-sizes[path], path))
    names = [f"{_short(path, workdir)} {size(sizes[path])}" for path in order[:_LARGEST]]
    return ", ".join([*names, "…"] if len(order) > _LARGEST else names)


def _short(path: Path, workdir: Path) -> Path:
    return path.relative_to(workdir) if workdir in path.parents else path


def _sizes(paths: Iterable[Path]) -> dict[Path, int]:
    """Bytes by file; a directory is all that is in it."""
    sizes: dict[Path, int] = {}
    for path in paths:
        if path.is_dir():
            below = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
            sizes.update({each: each.lstat().st_size for each in below})
        elif path.exists():
            sizes[path] = path.stat().st_size
    return sizes


def uncompared(name: str, rule: str) -> str:
    """The sentence for a value that cannot be compared with a machine's."""
    return (
        f"`{name}`, which the code of rule {rule} reads, is an object that cannot be compared: if a machine "
        "makes another one of it, nobody notices. Give the rule what it needs of it as params."
    )
