"""What of Snakemake is private and read or set on both ends; the reason beside each. For what only the
controller does, there is `plugin/snakemake_private.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Span = tuple[int, int | None]
"""Where a name's items begin and, if they are several, end."""


def is_named_list(value: Any) -> bool:
    """Input, output, params and log are lists whose items may have names."""
    return isinstance(value, list) and hasattr(value, "_names")


def names_of(values: Any) -> Iterator[tuple[str, Span]]:
    """The names of such a list. It has attributes for them, but none that tells which there are."""
    return iter(values._names.items())


def set_names(values: Any, names: Iterable[tuple[str, Span]]) -> None:
    """Give a list that was made here its names: Snakemake does so while it expands a rule."""
    values._take_names(iter(names))


def plain_strings(values: Any) -> Any:
    """The list as a rule's own function gets it, without flags."""
    return values._plainstrings()


def cores_of(resources: Any) -> int:
    """A job's threads, as its own code sees them: they are kept among the resources."""
    cores: int = resources._cores
    return cores


def set_jobid(workflow: Any, job: Any, jobid: int) -> None:
    """Let a job have the number that it has on the controller: `{jobid}` may be in its command."""
    workflow.dag._jobid[job] = jobid


def around_the_dag(hook: Callable[[Any, Callable[[], None]], None]) -> None:
    """From now on, `hook` is called in the place of building a workflow's DAG, with the workflow and what
    builds it: the first moment at which all rules are known."""
    from snakemake.workflow import Workflow

    build_dag = Workflow._build_dag
    Workflow._build_dag = lambda workflow: hook(workflow, lambda: build_dag(workflow))


def running_commands() -> list[tuple[int, Any]]:
    """The shell commands that run now, by their jobs' numbers."""
    from snakemake.shell import shell

    return list(shell._processes.items())


def without_evaluator(value: Any) -> Any:
    """The function that a resource was given as: newer Snakemakes wrap it."""
    return getattr(value, "_evaluator", value)


def params_are_told_twice() -> bool:
    """Newer Snakemakes tell the params that were given as they are, too, for their records."""
    from snakemake.jobs import Job

    return hasattr(Job, "_expand_params")
