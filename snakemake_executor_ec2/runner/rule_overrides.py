"""Snakemake's rules on the machine, held to what the controller decided of their jobs.

What a rule resolves there stays if it is the same; else it is set to what was decided, because the machine
sees less: an input function that lists a folder, params that read a file which was not sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from . import decided, snakemake_private, values

Decision = dict[str, Any]
"""One of the document's `jobs` (see `plugin/decision.py`)."""


class Decisions(Protocol):
    """What was decided, and what to do where that cannot be kept to."""

    def of(self, rule: Any, wildcards: Any) -> Decision | None:
        """What was decided of a job; None for one that only stands before the decided ones."""

    def refuse(self, job: Decision, what: str) -> Exception:
        """The error to raise for a job that would compute something else."""


class _Asked(NamedTuple):
    """Snakemake asks a rule for a part of a job."""

    told: Decision
    rule: Any
    ask: Callable[[], Any]
    """Snakemake's own answer."""
    refuse: Callable[[str], Exception]


def hold_rules_to(decisions: Decisions) -> None:
    """Exchange the methods with which Snakemake's rules resolve a job's parts."""
    from snakemake.rules import Rule

    def hold(name: str, answer: Callable[[_Asked], Any]) -> None:
        original = getattr(Rule, name)

        def expand(rule: Any, wildcards: Any, *args: Any, **kwargs: Any) -> Any:
            told = decisions.of(rule, wildcards)
            if told is None or kwargs.get("omit_callable"):
                return original(rule, wildcards, *args, **kwargs)
            return answer(
                _Asked(
                    told,
                    rule,
                    lambda: original(rule, wildcards, *args, **kwargs),
                    lambda what: decisions.refuse(told, what),
                )
            )

        setattr(Rule, name, expand)

    hold("expand_input", _input)
    hold("expand_output", _output)
    hold("expand_log", _log)
    hold("expand_benchmark", _benchmark)
    hold("expand_params", _params)
    hold("expand_resources", _resources)


def filled(kind: type, told: Any, own: list[Any], undecided: Any = None) -> Any:
    """Params or resources as decided. The machine's own value stays if it is the same, or if the
    controller left it to the machine (then `undecided`, if that is given).

    Raises ValueError for a value that does not travel and is not the same.
    """
    items = []
    for index, value in enumerate(told["v"]):
        mine = own[index] if index < len(own) else None
        if values.is_undecided(value):
            items.append(mine if undecided is None else undecided)
        elif index < len(own) and values.same(values.encode(mine), value):
            items.append(mine)
        else:
            items.append(values.decode(value))
    made = kind(items)
    snakemake_private.set_names(made, ((name, (begin, end)) for name, begin, end in told["names"]))
    return made


def _input(asked: _Asked) -> Any:
    try:
        result = asked.ask()
        if _same_files(result[0], asked.told["input"]):
            return result
        kind = type(result[0])
    except Exception:  # a function that looks for what was not sent
        kind = values.named_list("InputFiles")
    return _files(asked, kind, asked.told["input"]), {}, {}, False


def _output(asked: _Asked) -> Any:
    files, mapping = asked.ask()
    if _same_files(files, asked.told["output"]):
        return files, mapping
    if len(files) != len(asked.told["output"]["files"]):
        raise asked.refuse("its outputs are not the same on the machine as on your computer.")
    made = _files(asked, type(files), asked.told["output"])
    pairs = list(zip(made, files, strict=True))
    for new, old in pairs:
        new.flags.update(old.flags)
    return made, {new: mapping[old] for new, old in pairs}


def _log(asked: _Asked) -> Any:
    files = asked.ask()
    same = _same_files(files, asked.told["log"])
    return files if same else _files(asked, type(files), asked.told["log"])


def _benchmark(asked: _Asked) -> Any:
    file, told = asked.ask(), asked.told["benchmark"]
    if told is None or str(file) == told:
        return file
    from snakemake.io import IOFile

    made = IOFile(told, rule=asked.rule)
    made.flags.update(getattr(file, "flags", {}))
    return made


def _params(asked: _Asked) -> Any:
    told = asked.told["params"]
    try:
        answer = asked.ask()
    except Exception:  # a function that reads what was not sent
        if any(map(values.is_undecided, told["v"])):
            raise
        answer = None
    params, *further = answer if isinstance(answer, tuple) else (answer,)
    try:
        made = filled(values.named_list("Params"), told, list(params or ()))
    except ValueError as error:
        raise asked.refuse(
            f"one of its params can't be sent, and is not the same on the machine ({error})."
        ) from error
    return (
        (made, further[0] if further else list(made)) if snakemake_private.params_are_told_twice() else made
    )


def _resources(asked: _Asked) -> Any:
    own = asked.ask()  # what only the machine can tell: where temporary files go
    mine = {name: own[begin] for name, (begin, _) in snakemake_private.names_of(own)}
    told = asked.told["resources"]
    names = (name for name, *_ in told["names"])
    made = {
        name: mine.get(name) if values.is_undecided(value) else values.decode(value)
        for name, value in zip(names, told["v"], strict=True)
    }
    return type(own)(fromdict=made)


def _same_files(files: Any, told: Any) -> bool:
    here = decided.files(files)
    return bool(here["names"] == told["names"] and _places(here) == _places(told))


def _places(told: Any) -> list[tuple[str, str | None]]:
    return [(file["path"], file["query"]) for file in told["files"]]


def _files(asked: _Asked, kind: Any, told: Any) -> Any:
    from snakemake.io import IOFile

    if any(file["query"] for file in told["files"]):
        raise asked.refuse("its files in storage are not the same on the machine as on your computer.")
    made = kind()
    for file in told["files"]:
        one = IOFile(file["path"], rule=asked.rule)
        one.flags.update(dict.fromkeys(file["flags"], True))
        made.append(one)
    snakemake_private.set_names(made, ((name, (begin, end)) for name, begin, end in told["names"]))
    return made
