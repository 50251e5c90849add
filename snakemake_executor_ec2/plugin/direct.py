"""Which jobs run their command as it was decided, without Snakemake on the machine, and what that takes.

A plain `shell:` rule's command is known here, to the letter, and so are scripts in R, bash and Julia. Around
it Snakemake does little, which the agent does as well: folders for what the job makes, variables with the
number of threads, a place for temporary files, `touch()`. If anything else is involved, or a value is the
machine's to decide, the job takes the runner (`runner/run.py`).
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
from functools import cache
from typing import Any

from snakemake_executor_ec2.agent.benchmark import COLUMNS
from snakemake_executor_ec2.agent.direct import PLACEHOLDER, Request
from snakemake_executor_ec2.plugin import environment, scripts, snakemake_private
from snakemake_executor_ec2.plugin.job_plan import deployment_tools, flagged, inner_jobs, is_storage, label
from snakemake_executor_ec2.runner import decided

_OTHER_PLACEHOLDER = PLACEHOLDER.replace("tmpdir", "directory-for-temporary-files")
_NEEDS_NO_QUOTES = re.compile(r"[\w@%+=:,./-]+")
_BY_SNAKEMAKE = ("pipe", "service")
_CHECKED_IN_GROUPS = ("ensure", "update", "protected", "nodelocal")


class NotDirect(Exception):
    """Why a job takes the runner: half a sentence."""


def direct_request(job: Any) -> dict[str, Any]:
    """What the agent needs to run a job itself: `Request` as a dict, or what `agent/group.py` says of groups.
    Raises NotDirect."""
    _check_run(job.dag.workflow)
    return _group(job) if job.is_group() else _request(job)._asdict()


def _request(job: Any) -> Request:
    _check_rule(job)
    _check_files(job)
    tmpdir = _tmpdir(job)
    made = [*job.output, *job.log, *([job.benchmark] if job.benchmark else [])]
    command, script = _command(job)
    return Request(
        command=_with_prefix(command, _executable(job)),
        executable=_executable(job),
        threads=int(job.threads),
        tmpdir=tmpdir,
        made=tuple(map(str, made)),
        directories=tuple(str(file) for file in made if flagged(file, "directory")),
        kept=tuple(str(file) for file in made if flagged(file, "update")),
        touched=tuple(map(str, job.touch_output)),
        benchmark=str(job.benchmark) if job.benchmark else None,
        script=script,
    )


def _group(group: Any) -> dict[str, Any]:
    jobs = inner_jobs(group)
    positions = {job: index for index, job in enumerate(jobs)}
    members = []
    for job in jobs:
        try:
            before = sorted(positions[each] for each in job.dag.job_dependencies(job) if each in positions)
            members.append(_member(job, before))
        except NotDirect as why:
            raise NotDirect(f"of {label(job)}: {why}") from why
    temporary = set() if group.dag.workflow.storage_settings.notemp else _unneeded(group)
    readers = {
        name: [index for index, job in enumerate(jobs) if name in map(str, job.input)]
        for name in sorted(temporary)
    }
    return {
        "members": members,
        "cores": int(group.threads),
        "temporary": [[name, by] for name, by in readers.items() if by],
    }


def _member(job: Any, before: list[int]) -> dict[str, Any]:
    """One job of a group; `before` are the positions of those that have to be done before it."""
    if job.is_checkpoint or any(flagged(file, flag) for file in job.output for flag in _CHECKED_IN_GROUPS):
        raise NotDirect("Snakemake looks at its outputs between the jobs of the group")
    if before and decided.looks_at_inputs(job.rule):
        raise NotDirect("its params or resources look at files that the group makes")
    return {
        "label": label(job),
        "request": _request(job)._asdict(),
        "outputs": list(map(str, job.output)),
        "logs": list(map(str, job.log)),
        "after": before,
    }


def _unneeded(group: Any) -> set[str]:
    return {str(file) for file in group.dag.get_unneeded_temp_files(group)}


def _check_run(workflow: Any) -> None:
    if workflow.executor_settings.direct == "never":
        raise NotDirect("of --ec2-direct never")
    if workflow.remote_execution_settings.precommand:
        raise NotDirect("--precommand names a command that has to run before it")
    # Only the Snakefile itself can do to the machine's PATH what it does to ours.
    own = sorted(filter(environment.is_the_machines, environment.written()))
    if own:
        raise NotDirect(f"the Snakefile sets {own[0]}")


def _executable(job: Any) -> str:
    """`bash`, whose place is the machine's, unless the rule or the Snakefile names another shell."""
    from snakemake.shell import shell

    named = job.resources.get("shell_exec") or shell.get_executable()
    return "bash" if named in (None, _bash(os.environ.get("PATH"))) else str(named)


@cache
def _bash(search_path: str | None) -> str | None:
    """Where it is here: looked for once, and not for each of a thousand jobs."""
    return shutil.which("bash", path=search_path)


def _with_prefix(command: str, executable: str) -> str:
    """As `snakemake.shell` puts them together: strict mode, or what the Snakefile has set in its place."""
    before, after = snakemake_private.around_commands(executable)
    return f"{before} {command} {after}".strip()


def _check_rule(job: Any) -> None:
    rule = job.rule
    if rule.is_script and not scripts.can_be_written_here(rule):
        raise NotDirect("it has a script in another language than R, bash or Julia")
    if not rule.is_shell and not rule.is_script:
        raise NotDirect(f"it is no shell rule but one with {_directive(rule)}")
    if rule.shadow_depth is not None:
        raise NotDirect("it has a shadow folder")
    if job.benchmark:
        _check_benchmark(job)
    tools = deployment_tools([job])
    if tools:
        raise NotDirect(f"Snakemake deploys its software with {tools[0]}")


def _check_benchmark(job: Any) -> None:
    from snakemake.benchmark import BenchmarkRecord

    if job.benchmark_repeats > 1:
        raise NotDirect("its benchmark is repeated")
    if job.rule.workflow.output_settings.benchmark_extended:
        raise NotDirect("of --benchmark-extended")
    if tuple(BenchmarkRecord.get_header()) != COLUMNS:
        raise NotDirect("this Snakemake's benchmarks have other columns")


def _directive(rule: Any) -> str:
    named = {
        "script": rule.script,
        "notebook": rule.notebook,
        "wrapper": rule.wrapper,
        "template_engine": rule.template_engine,
        "cwl": rule.cwl,
    }
    return next((name for name, given in named.items() if given), "run")


def _check_files(job: Any) -> None:
    files = [*job.input, *job.output, *job.log, job.benchmark]
    if any(map(is_storage, files)):
        raise NotDirect("it has files in storage")
    if job.pipe_group or any(flagged(file, flag) for file in files for flag in _BY_SNAKEMAKE):
        raise NotDirect("it has pipes or services")


_Command = tuple[str, tuple[str, str] | None]
"""A command, and name and text of the script that it runs."""


def _command(job: Any) -> _Command:
    """The command, with `PLACEHOLDER` for the machine's folder of temporary files. Raises NotDirect.

    It is made twice, with placeholders of two lengths: where the workflow's code looks at the folder
    other than as a text that it passes on, the two differ in more than that.
    """
    made, other = (_formatted(job, text) for text in (PLACEHOLDER, _OTHER_PLACEHOLDER))
    texts, others = ([command, *(script or ())] for command, script in (made, other))
    if texts != [text.replace(_OTHER_PLACEHOLDER, PLACEHOLDER) for text in others]:
        raise NotDirect("its command depends on the machine's folder for temporary files")
    caches = job.rule.workflow.sourcecache
    for text in texts:
        if "<TBD>" in text:
            raise NotDirect("a part of its command is decided on the machine")
        if any(str(cache) in text for cache in (caches.cache_path, caches.runtime_cache_path)):
            raise NotDirect("its command names a file in Snakemake's cache")
    return made


def _formatted(job: Any, tmpdir: str) -> _Command:
    """The command, with a text for the machine's folder for temporary files."""
    try:
        resources, params = job.resources, job.params
    except Exception as error:
        raise NotDirect(f"its params or resources can't be computed on your computer: {error}") from error
    changed: dict[str, Any] = {}
    if isinstance(resources.get("tmpdir"), str) and not resources.get("tmpdir"):  # Snakemake's `<TBD>`
        changed["resources"] = type(resources)(fromdict={**dict(resources.items()), "tmpdir": tmpdir})
        if _look_at_resources(job.rule) and job.attempt == 1:
            changed["params"] = None
    try:
        with snakemake_private.changed(job, **{"resources": resources, "params": params, **changed}):
            made = _made(job)
    except Exception as error:
        raise NotDirect(f"its command can't be formatted on your computer: {error}") from error
    if made is None:
        what = "script is no file of this computer" if job.rule.is_script else "command is not one text"
        raise NotDirect(f"its {what}")
    return made


def _made(job: Any) -> _Command | None:
    if job.rule.is_script:
        script = scripts.script_of(job, params=job.params, resources=job.resources)
        return None if script is None else (script.command, (script.name, script.text))
    command = decided.shell_text(job, params=job.params, resources=job.resources, jobid=job.jobid)
    return None if command is None else (command, None)


def _look_at_resources(rule: Any) -> bool:
    """Whether functions among a rule's params are given the resources, the machine's tmpdir among them."""
    functions = [param for param in rule.params if callable(param)]
    return any("resources" in inspect.signature(function).parameters for function in functions)


def _tmpdir(job: Any) -> str | None:
    """Where the rule wants temporary files; None: where the machine has them. Raises NotDirect."""
    if "tmpdir" not in job.rule.resources:
        return None
    wanted = job.rule.resources["tmpdir"]
    raw = getattr(wanted, "raw", wanted)  # of a function Snakemake keeps no text
    if raw == "system_tmpdir":
        return None
    text = raw.strip("'\"") if isinstance(raw, str) else ""
    if not text.startswith("/") or not _NEEDS_NO_QUOTES.fullmatch(text):
        raise NotDirect("its tmpdir is only known on the machine")
    return text
