"""What of Snakemake is read and set here, and differs between its versions; the reason beside each.

Imported at every start of Snakemake: standard library only, and nothing of Snakemake's that a
coming version no longer has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

# Up to 9, `deployment_method` holds members of an enumeration, `DeploymentMethod`. The next major
# has no such enumeration: there, `deployment_methods` holds the names of plugins.
_METHODS = ("deployment_methods", "deployment_method")
_OTHER_NAMES = {"singularity": "apptainer", "container": "apptainer", "envmodules": "env-modules"}


def deployment_methods(workflow: Any) -> frozenset[str]:
    """How Snakemake is to deploy software: `conda`, `apptainer`, `env-modules`."""
    settings = workflow.deployment_settings
    return frozenset(map(_name, getattr(settings, _attribute(settings))))


@contextmanager
def deploying_only(workflow: Any, methods: Collection[str]) -> Iterator[None]:
    """Meanwhile, Snakemake is to deploy software only in these of its ways.

    The command of a job is made of the run's settings: with conda among them, the machine's
    Snakemake wants to have it for every job.
    """
    settings = workflow.deployment_settings
    attribute = _attribute(settings)
    every = getattr(settings, attribute)
    setattr(settings, attribute, frozenset(each for each in every if _name(each) in methods))
    try:
        yield
    finally:
        setattr(settings, attribute, every)


def _attribute(settings: Any) -> str:
    return next(name for name in _METHODS if hasattr(settings, name))


def _name(method: object) -> str:
    text = str(getattr(method, "name", method)).lower().replace("_", "-")
    return _OTHER_NAMES.get(text, text)
