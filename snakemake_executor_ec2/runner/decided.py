"""What a job of Snakemake's is made of, read from the job object: here by the controller, which decides,
and on the machine, which compares. Both ends use this module; Snakemake is imported when it is needed.
"""

from __future__ import annotations

import functools
import inspect
import string
import types
from collections.abc import Iterator, Mapping
from typing import Any

from . import snakemake_private
from .values import Encoded, compact, encode, is_own, is_the_workflows, module_of

_MAX_GLOBALS = 400
"""Far more names than any rule's code has that was seen."""
Key = tuple[str, tuple[tuple[str, str], ...]]


def key_of(rule: Any, wildcards: Mapping[str, str] | None) -> Key:
    """What tells a job from all others of its workflow."""
    return str(rule.name), tuple(sorted((str(name), str(value)) for name, value in (wildcards or {}).items()))


def files(values: Any) -> Encoded:
    """Input, output or log: their names, flags and, for what is in storage, the query there."""
    told = [
        {
            "path": str(file),
            "query": str(file.storage_object.query) if getattr(file, "is_storage", False) else None,
            "flags": sorted(name for name, value in getattr(file, "flags", {}).items() if value is True),
        }
        for file in values
    ]
    return {"files": told, "names": [[name, *span] for name, span in snakemake_private.names_of(values)]}


def code_of(rule: Any) -> dict[str, str | None]:
    """The rule's own code, as the Snakefile has it."""
    return {
        "shell": rule.shellcmd,
        "script": str(rule.script) if rule.script else None,
        "notebook": str(rule.notebook) if rule.notebook else None,
        "wrapper": str(rule.wrapper) if rule.wrapper else None,
        "run": rule.run_func_src if rule.is_run else None,
    }


def shell_text(job: Any, *, params: Any, resources: Any, jobid: int) -> str | None:
    """The command of a `shell:` rule, exactly as Snakemake would run it; None for other rules.

    It is not `job.shellcmd`, which is what Snakemake prints: that is formatted with the main
    workflow's globals, when a module has its own, and before the directive is evaluated again.
    So the rule's own function is called, with something in the place of `shell` that takes down
    the command. Raises what formatting raises.
    """
    from snakemake.utils import format as formatted

    if not job.rule.is_shell:
        return None
    taken: list[str] = []

    def shell(cmd: str, *args: Any, **kwargs: Any) -> None:
        for handled_elsewhere in ("iterable", "read", "bench_record"):
            kwargs.pop(handled_elsewhere, None)
        taken.append(formatted(cmd, *args, stepout=2, **kwargs))

    call_rule(job, params=params, resources=resources, jobid=jobid, shell=shell)
    return taken[0] if len(taken) == 1 else None


def call_rule(job: Any, *, params: Any, resources: Any, jobid: int, **replaced: Any) -> None:
    """Call a rule's own function as Snakemake would, with some of its globals replaced."""
    copy = with_globals(job.rule.run_func, **replaced)
    caches = job.rule.workflow.sourcecache
    values = {
        "input": snakemake_private.plain_strings(job.input),
        "output": snakemake_private.plain_strings(job.output),
        "params": params,
        "wildcards": job.wildcards,
        "threads": snakemake_private.cores_of(resources),
        "resources": resources,
        "log": snakemake_private.plain_strings(job.log),
        "rule": job.rule.name,
        "bench_iteration": 0 if job.benchmark else None,
        "jobid": jobid,
        "is_shell": job.rule.is_shell,
        "basedir": job.rule.basedir,
        "sourcecache_path": caches.cache_path,
        "runtime_sourcecache_path": caches.runtime_cache_path,
    }
    names = copy.__code__.co_varnames[: copy.__code__.co_argcount]
    optional = set(names[len(names) - len(copy.__defaults__ or ()) :])
    copy(**{name: values.get(name) for name in names if name in values or name not in optional})


def with_globals(function: Any, **replaced: Any) -> types.FunctionType:
    """A copy of a function, for which some globals are others."""
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, **replaced},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def looks_at_inputs(rule: Any) -> bool:
    """Whether functions among a rule's params or resources are given its input."""
    resources = [value for name, value in rule.resources.items() if name != "tmpdir"]  # the machine's own
    return any(map(_is_given_input, [*rule.params, *resources]))


def without_inputs(job: Any) -> tuple[Any, Any]:
    """A job's params and resources, with Snakemake's `<TBD>` for what functions make of its input.

    For a job whose input is made in its own group: what is there before is of an earlier run, if anything.
    """
    from snakemake.common.tbdstring import TBDString

    rule, params = job.rule, job.params
    known = list(rule.params) if len(rule.params) == len(params) else [None] * len(params)
    left = any(map(_is_given_input, rule.params))
    made = type(params)(
        TBDString() if left and (raw is None or _is_given_input(raw)) else value
        for raw, value in zip(known, params, strict=True)
    )
    snakemake_private.set_names(made, snakemake_private.names_of(params))
    resources = {
        name: TBDString() if name in rule.resources and _is_given_input(rule.resources[name]) else value
        for name, value in job.resources.items()
    }
    return made, type(job.resources)(
        fromdict={**resources, "_cores": snakemake_private.cores_of(job.resources)}
    )


def _is_given_input(value: Any) -> bool:
    function = snakemake_private.without_evaluator(value)
    return callable(function) and "input" in inspect.signature(function).parameters


def globals_of(rule: Any) -> list[tuple[list[str], Encoded]]:
    """The globals that the code of a `run:` or `shell:` rule names, and what they are: `(path, value)`.

    A path leads from the rule's globals through modules and functions of the workflow's own, whose
    code is looked through as well. Names that code makes up while it runs are not seen.
    """
    if not (rule.is_run or rule.is_shell):
        return []
    found: dict[tuple[str, ...], Encoded] = {}
    _look_through(rule.run_func.__code__, (), rule.run_func.__globals__, found, set())
    return [(list(path), compact(value)) for path, value in sorted(found.items())]


def look_up(rule: Any, path: list[str]) -> Encoded:
    """The value at a path of `globals_of`, on this computer. Raises LookupError if there is none."""
    value: Any = rule.run_func.__globals__
    for step in path:
        if isinstance(value, dict):
            value = value[step]
        elif hasattr(value, step):
            value = getattr(value, step)
        else:
            raise LookupError(step)
    return compact(encode(value))


def put(rule: Any, path: list[str], value: Any) -> None:
    """Exchange the value at a path of `globals_of`."""
    place: Any = rule.run_func.__globals__
    for step in path[:-1]:
        place = place[step] if isinstance(place, dict) else getattr(place, step)
    if isinstance(place, dict):
        place[path[-1]] = value
    else:
        setattr(place, path[-1], value)


def _look_through(
    code: types.CodeType,
    path: tuple[str, ...],
    place: dict[str, Any],
    found: dict[tuple[str, ...], Encoded],
    seen: set[int],
) -> None:
    """Collect what `code` reads of `place`, the globals that `path` leads to."""
    if id(code) in seen or len(found) > _MAX_GLOBALS:
        return
    seen.add(id(code))
    names = set(_names_in(code))
    for name in sorted(names & place.keys()):
        _look_at(place[name], (*path, name), names, found, seen)


def _look_at(
    value: Any, path: tuple[str, ...], names: set[str], found: dict[tuple[str, ...], Encoded], seen: set[int]
) -> None:
    if isinstance(value, types.FunctionType):
        if is_the_workflows(value.__code__.co_filename):
            _look_through(value.__code__, (*path, "__globals__"), value.__globals__, found, seen)
    elif isinstance(value, (types.ModuleType, type)):
        # Of a module or class what the same code names, too: `common.SAMPLES`, `Reader().read()`.
        if is_the_workflows(_file_of(value)) and id(value) not in seen:
            seen.add(id(value))
            for name in sorted(names & vars(value).keys()):
                _look_at(vars(value)[name], (*path, name), names, found, seen)
    elif path[-1] != "config" and not path[-1].startswith("__") and _is_data(value):
        found[path] = encode(value)


def _names_in(code: types.CodeType) -> Iterator[str]:
    """Names that code reads, also in functions within it and in strings that `shell` formats."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)
        elif isinstance(constant, str) and "{" in constant:
            yield from _names_in_format(constant)


def _names_in_format(text: str) -> Iterator[str]:
    try:
        for _, field, _, _ in string.Formatter().parse(text):
            if field:
                yield field.partition(".")[0].partition("[")[0]
    except ValueError:  # no format string
        return


def _file_of(value: Any) -> str | None:
    """The file of a module, or the one in which the methods of a class are."""
    if isinstance(value, types.ModuleType):
        return getattr(value, "__file__", None)
    methods = (each for each in vars(value).values() if isinstance(each, types.FunctionType))
    return next((method.__code__.co_filename for method in methods), None)


def _is_data(value: Any) -> bool:
    """Whether a value is one that the workflow computes with, and no function or part of Snakemake."""
    foreign = ("snakemake.", "logging", "threading", "_thread", "_io")
    if module_of(value).startswith(foreign):
        return False
    return not callable(value) or isinstance(value, functools.partial) or is_own(value)
