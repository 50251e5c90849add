"""How moto is changed: only what is there, so that another version of it is noticed at once."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


class UnknownMoto(Exception):
    """moto lacks something that is corrected here."""


def replace(owner: Any, name: str, new: Any) -> Any:
    """Put `new` in the place of an attribute; the old one. Raises UnknownMoto if there is none."""
    try:
        old = getattr(owner, name)
    except AttributeError as error:
        raise UnknownMoto(
            f"moto {version('moto')} has no {owner.__module__}.{owner.__name__}.{name}, which the embedded "
            "cloud corrects: install the version that snakemake-executor-plugin-ec2[local] asks for"
        ) from error
    setattr(owner, name, new)
    return old
