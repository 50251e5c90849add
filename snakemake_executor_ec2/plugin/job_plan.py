"""From Snakemake's job to a `JobPlan`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import JobPlan, Requirements
from snakemake_executor_ec2.plugin import snakemake_private
from snakemake_executor_ec2.plugin.earlier_logs import read_logs, small_beside
from snakemake_executor_ec2.staging.indexes import indexes
from snakemake_executor_ec2.staging.private import private_in
from snakemake_executor_ec2.staging.sources import LIMIT_BYTES

# Outputs that never leave the machine: they live between the jobs of a group.
_STAY_FLAGS = ("pipe", "service", "nodelocal")


def plan_job(
    job: Any,
    *,
    key: str,
    command: str,
    decision: Mapping[str, Any],
    direct: Mapping[str, Any] | None,
    env: Mapping[str, str],
    requirements: Requirements,
    sources: tuple[Path, ...],
    keep_incomplete: bool,
) -> JobPlan:
    """What a machine needs to know of a job or group job, with absolute paths."""
    jobs = inner_jobs(job)
    # For groups, Snakemake only says that temp files which no other job reads stay where they are.
    unneeded = set(job.dag.get_unneeded_temp_files(job)) if job.is_group() else set()
    outputs = [f for j in jobs for f in j.output if _comes_back(f)]
    benchmarks = [j.benchmark for j in jobs if j.benchmark and not is_storage(j.benchmark)]
    logs = [f for j in jobs for f in j.log if not is_storage(f)]
    optional = [f for f in outputs if str(f) in unneeded]
    # Of jobs that a checkpoint has brought, the workflow's sources have none.
    environments = [file for j in jobs for file in environment_files(j)]
    params_files = [path for path in _params_files(jobs) if path.stat().st_size <= LIMIT_BYTES]
    return JobPlan(
        key=key,
        rule="+".join(rule_names(job)),
        label=label(job),
        command=command,
        decision=decision,
        direct=direct,
        workdir=Path.cwd(),
        env=env,
        requirements=requirements,
        tools=deployment_tools(jobs),
        folders=(*_deployment_folders(jobs), *_absolute(_climbed_from(jobs))),
        sources=tuple(dict.fromkeys([*sources, *params_files, *environments])),
        inputs=_existing([*_inputs(job, jobs), *updated(job), *_before(jobs, decision, sources)]),
        outputs=_absolute([f for f in outputs if str(f) not in unneeded] + benchmarks),
        optional_outputs=_absolute(optional),
        logs=_absolute(logs + benchmarks),
        is_checkpoint=any(j.is_checkpoint for j in jobs),
        own=_absolute(f for j in jobs for f in (*j.output, *j.log, j.benchmark) if f),
        incomplete=_absolute(outputs) if keep_incomplete else (),
    )


def _inputs(job: Any, jobs: Sequence[Any]) -> list[Any]:
    """What has to be on the machine beforehand. Raises ConfigurationError."""
    made = {str(f) for j in jobs for f in j.output}
    readers = [*jobs, *_checkpoints_before(jobs)]
    inputs = [f for j in readers for f in j.input if not is_storage(f) and str(f) not in made]
    inputs += container_images(jobs)
    inputs += [f for j in readers[len(jobs) :] for f in j.output if _comes_back(f)]
    for path in _absolute(inputs):
        if private := private_in(path, Path.cwd()):
            raise ConfigurationError(
                f"{label(job)} declares {path} as input, but {private} is never sent to a machine: "
                "credentials, this plugin's own notes and .git stay on your computer. Let a local rule "
                "(localrules:) write what the job needs of it into a file"
            )
    return inputs + [path for path in indexes_beside(job) if path.stat().st_size <= LIMIT_BYTES]


def rules_that_stay(workflow: Any) -> list[str]:
    """Rules that only make sense on this computer: `rule clean: shell: "rm -rf results"`.

    They declare no input, output, log or benchmark, so nothing of them would travel to a machine or
    come back from it. Who declares threads, resources or software for such a rule means a machine.
    """
    return [rule.name for rule in workflow.rules if not rule.norun and _declares_nothing(rule)]


def _declares_nothing(rule: Any) -> bool:
    conda = _deploys(rule.workflow, "CONDA") and rule.conda_env
    container = _deploys(rule.workflow, "APPTAINER") and rule.container_img
    if any((rule.input, rule.output, rule.log, rule.benchmark, conda, container)):
        return False
    # Snakemake keeps threads among the resources, and puts default resources into every rule.
    defaults = snakemake_private.default_resources(rule.workflow.resource_settings)
    ordinary = {**(defaults or {}), "_nodes": 1, "_cores": 1}
    return all(name in ordinary and value == ordinary[name] for name, value in rule.resources.items())


def inner_jobs(job: Any) -> list[Any]:
    """The jobs of a group in a stable order, or the job alone."""
    return sorted(job.jobs, key=lambda j: j.jobid) if job.is_group() else [job]


def outputs_of(jobs: Iterable[Any]) -> tuple[Path, ...]:
    """All that some jobs make, as absolute paths."""
    return _absolute(f for job in jobs for f in job.output)


def deployment_tools(jobs: Iterable[Any]) -> tuple[str, ...]:
    """What Snakemake needs on the machine to deploy the software of some jobs: conda, apptainer."""
    tools = {
        "conda": any(_deploys(job.dag.workflow, "CONDA") and job.conda_env_spec for job in jobs),
        "apptainer": any(_deploys(job.dag.workflow, "APPTAINER") and job.container_img_url for job in jobs),
    }
    return tuple(tool for tool, wanted in tools.items() if wanted)


def _deployment_folders(jobs: Iterable[Any]) -> tuple[Path, ...]:
    """The folders of `--conda-prefix` and `--apptainer-prefix`: paths of this computer, maybe of its user."""
    folders = [
        getattr(job.dag.workflow.deployment_settings, f"{tool}_prefix")
        for job in jobs
        for tool in deployment_tools([job])
    ]
    return _absolute(filter(None, folders))


def _deploys(workflow: Any, method: str) -> bool:
    return method.lower() in snakemake_private.deployment_methods(workflow)


def container_images(jobs: Iterable[Any]) -> list[str]:
    """Images of containers that are files here: they travel as inputs do."""
    urls = [
        str(job.container_img_url)
        for job in jobs
        if _deploys(job.dag.workflow, "APPTAINER") and job.container_img_url
    ]
    return [url.removeprefix("file://") for url in urls if "://" not in url.removeprefix("file://")]


def rule_names(job: Any) -> list[str]:
    """The names of the rules involved, each once."""
    return list(dict.fromkeys(j.rule.name for j in inner_jobs(job)))


def label(job: Any) -> str:
    """For people: `rule align (sample=A)`, `group mygroup (align, sort; sample=A)`."""
    if job.is_group():
        shared = set.intersection(*(set(each.wildcards_dict.items()) for each in inner_jobs(job)))
        told = (", ".join(rule_names(job)), ", ".join(f"{name}={value}" for name, value in sorted(shared)))
        return f"group {job.groupid} ({'; '.join(filter(None, told))})"
    wildcards = ", ".join(f"{name}={value}" for name, value in job.wildcards_dict.items())
    return f"rule {job.rule.name}" + (f" ({wildcards})" if wildcards else "")


def updated(job: Any) -> list[Path]:
    """Outputs that the job changes rather than makes, relative to the working directory."""
    return [Path(f) for j in inner_jobs(job) for f in j.output if flagged(f, "update")]


def look_in_storage(job: Any, *, outputs: bool) -> None:
    """Let Snakemake look for a job's logs, benchmarks and (after success) outputs in the buckets
    into which the machine has put them. It would ask for copies of them here, and store those."""
    for each in inner_jobs(job):
        files = [*each.log, *([each.benchmark] if each.benchmark else []), *(each.output if outputs else ())]
        for file in filter(is_storage, files):
            file.storage_object.retrieve = False


def remove_empty_logs(job: Any) -> None:
    """Remove what Snakemake has put here in the place of logs that are in buckets."""
    for each in inner_jobs(job):
        for file in filter(is_storage, each.log):
            path = Path(str(file))
            if path.is_file() and not path.stat().st_size:
                path.unlink()


def resources(job: Any) -> dict[str, int | str]:
    """The job's resources that are settled; those to be determined later are left out."""
    return {name: value for name, value in job.resources.items() if isinstance(value, int | str)}


def unsettled_resources(job: Any) -> list[str]:
    """The job's resources that size its machine and depend on files that are not there yet."""
    return [name for name, value in job.resources.items() if str(value) == "<TBD>" and name != "tmpdir"]


def unevaluated_resources(rule: Any) -> list[str]:
    """The rule's resources that were given as texts. Machines evaluate some themselves, such as tmpdir."""
    given = (getattr(resource, "raw", resource) for resource in rule.resources.values())
    return [text for text in given if isinstance(text, str)]


def _checkpoints_before(jobs: Iterable[Any]) -> list[Any]:
    """Checkpoints that came before some jobs. The machine works out the jobs' inputs again: it
    looks at what the checkpoints made, and for that has to find them done."""
    jobs = [job for job in jobs if any(_is_function(f) for f in job.rule.input)]
    if not jobs or not any(rule.is_checkpoint for rule in jobs[0].dag.workflow.rules):
        return []
    dag = jobs[0].dag
    to_see, seen, ours = list(jobs), set(jobs), set(jobs)
    read: set[str] = set()
    while to_see:
        job = to_see.pop()
        read.update(map(str, job.input))
        for before in dag.job_dependencies(job):
            if before not in seen:
                seen.add(before)
                to_see.append(before)
    # What is in a checkpoint's directory depends on it without Snakemake's knowing.
    read.update(str(parent) for file in list(read) for parent in Path(file).parents)
    checkpoints = [job for job in dag.jobs if job.is_checkpoint and job not in ours]
    return [job for job in checkpoints if job in seen or read & set(map(str, job.output))]


def _before(jobs: Collection[Any], decision: Mapping[str, Any], sources: tuple[Path, ...]) -> list[str]:
    """Logs, benchmarks and small outputs of the jobs right before some others that these may read."""
    before = {each for job in jobs for each in job.dag.job_dependencies(job)}.difference(jobs)
    files = {f for job in before for f in (*job.log, job.benchmark) if f and not is_storage(f)}
    files |= small_beside({f for job in before for f in job.output}, {f for job in jobs for f in job.input})
    return read_logs(jobs, files, commands=[each["shell"] for each in decision["jobs"]], sources=sources)


def _is_function(file: Any) -> bool:
    return callable(file) or bool(hasattr(file, "is_callable") and file.is_callable())


def left_out(job: Any) -> list[Path]:
    """What is too large to travel unasked: files of the workflow's that the job's rules get as `params`, and
    indexes beside its inputs."""
    files = [*_params_files(inner_jobs(job)), *indexes_beside(job)]
    return [path for path in files if path.stat().st_size > LIMIT_BYTES]


def indexes_beside(job: Any) -> list[Path]:
    """The indexes of a job's inputs that it neither declares nor makes."""
    jobs = inner_jobs(job)
    declared = set(_absolute(f for j in jobs for f in (*j.input, *j.output, *j.log)))
    files = _absolute(f for j in jobs for f in j.input if not is_storage(f))
    return [path for path in indexes(files) if path not in declared]


def _params_files(jobs: Iterable[Any]) -> Iterator[Path]:
    """Files of the workflow's that rules get as `params`: absolute paths below their Snakefile, and what
    `workflow.source_path` has led to, in Snakemake's cache of this run."""
    for job in jobs:
        folder = Path(str(job.rule.basedir.get_path_or_uri(secret_free=True)))
        cache = Path(job.dag.workflow.sourcecache.runtime_cache_path)
        for value in _flat(job.params):
            path = Path(os.path.normpath(value))
            if not {folder, cache}.isdisjoint(path.parents) and path.is_file():
                yield path


def _climbed_from(jobs: Iterable[Any]) -> Iterator[str]:
    """Folders that have to be there, because paths of inputs and params go through them: `rules/../a.txt`."""
    for job in jobs:
        cache = str(job.dag.workflow.sourcecache.runtime_cache_path)
        for value in (*_flat(job.params), *_flat(job.input)):
            if value.startswith(cache):
                yield from (value[: found.start()] for found in re.finditer(r"/\.\.(?=/)", value))


def _flat(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            if value.startswith("/") and len(value) < 4096 and "\0" not in value:
                yield value
        elif isinstance(value, list | tuple | set):
            yield from _flat(value)


def _comes_back(file: Any) -> bool:
    return not is_storage(file) and not any(flagged(file, flag) for flag in _STAY_FLAGS)


def is_storage(file: Any) -> bool:
    """Whether a file of a job is in a bucket or the like, which machines get at without us."""
    return bool(getattr(file, "is_storage", False))


def flagged(file: Any, flag: str) -> bool:
    """Whether a file of a job has one of Snakemake's flags, such as `update` or `directory`."""
    return bool(getattr(file, "flags", {}).get(flag, False))


def _existing(files: Iterable[Any]) -> tuple[Path, ...]:
    return tuple(path for path in _absolute(files) if os.path.lexists(path))


def _absolute(files: Iterable[Any]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(Path(os.path.abspath(str(each))) for each in files))


def workflow_sources(workflow: Any) -> Iterator[Path]:
    """Files that make up the workflow as Snakemake knows it: Snakefiles, scripts with the
    folders that they are in, notebooks, wrappers, environments, configuration.

    Folders are yielded as such; `staging.sources` decides what of them travels.
    """
    for source in workflow.included:
        yield from _local_source(source)
    for path in [*workflow.configfiles, *workflow.overwrite_configfiles]:
        yield Path(os.path.abspath(path))
    for rule in workflow.rules:
        for code in filter(None, (rule.script, rule.notebook)):
            # A name with wildcards: whichever it will be, it is in that folder.
            known, brace, _ = str(code).partition("{")
            paths = _local_source(_beside(rule, str(Path(f"{known}_").parent) if brace else code))
            yield from (path if brace else path.parent for path in paths)
        if rule.wrapper:
            yield from (path.parent for path in wrapper_files(rule))
    for job in workflow.dag.jobs:
        yield from environment_files(job)


def workflow_folders(workflow: Any) -> list[Path]:
    """Folders outside of the working directory that belong to the workflow: those of its Snakefiles, and
    the one that Snakemake was started in, from where a `workdir:` may have led away.

    A folder `workflow` is, by convention, one of several of its repository, which then counts. A home
    directory does not: it holds everything.
    """
    snakefiles = {path.parent for source in workflow.included for path in _local_source(source)}
    outside = {folder for folder in snakefiles if not folder.is_relative_to(Path.cwd())}
    repositories = {folder.parent for folder in outside if folder.name == "workflow"}
    folders = {Path(workflow.workdir_init), *outside, *repositories}
    found: list[Path] = []
    for folder in sorted(folders, key=lambda folder: len(folder.parts)):
        known = any(map(folder.is_relative_to, (Path.cwd(), *found)))
        if not known and not Path.home().is_relative_to(folder) and not folder.is_relative_to(sys.prefix):
            found.append(folder)
    return found


def fetched_sources(workflow: Any) -> Path | None:
    """Where Snakemake keeps what it has read for this run, if Snakefiles among it are not files here:
    they come from the web or out of a git repository, which machines may not reach as we do."""
    elsewhere = any(not list(_local_source(source)) for source in workflow.included)
    return Path(workflow.sourcecache.runtime_cache_path) if elsewhere else None


def wrapper_of(rule: Any) -> Any:
    """Where a rule's wrapper is, as a source file of Snakemake's."""
    from snakemake.wrapper import get_path

    return get_path(rule.wrapper, rule.workflow.workflow_settings.wrapper_prefix)


def wrapper_files(rule: Any) -> Iterator[Path]:
    """A wrapper's code, if it is on this computer."""
    for path in _local_source(wrapper_of(rule)):
        yield from sorted(path.glob("wrapper.*")) if path.is_dir() else [path]


def environment_files(job: Any) -> Iterator[Path]:
    """The file of a job's conda environment, with its exact versions for platforms and its script
    for after the installation."""
    named = getattr(job.conda_env_spec, "file", None)  # others are names, or folders with an environment
    if named is None:
        return
    for file in _local_source(_beside(job.rule, named)):
        yield file
        for beside in ("*.pin.txt", "post-deploy.sh"):
            yield from file.parent.glob(f"{escape(file.stem)}.{beside}")


def _beside(rule: Any, path: Any) -> Any:
    """A path of a rule, which counts from the Snakefile that defines the rule."""
    return path if not isinstance(path, str) or Path(path).is_absolute() else rule.basedir.join(path)


def _local_source(source: Any) -> Iterator[Path]:
    if hasattr(source, "get_path_or_uri"):
        source = source.get_path_or_uri(secret_free=True)
    path = Path(os.path.abspath(str(source).removeprefix("file://")))
    if path.exists():
        yield path


def workflow_data(dag: Any) -> tuple[frozenset[Path], frozenset[Path]]:
    """What the workflow's rules read, and what they make: it travels with the jobs that need it."""
    inputs = frozenset(_absolute(f for job in dag.jobs for f in job.input))
    return inputs, frozenset(_absolute(f for job in dag.jobs for f in (*job.output, *job.log)))
