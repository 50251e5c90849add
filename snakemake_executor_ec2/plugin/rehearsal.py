"""`--ec2-cloud local`: the embedded cloud answers this process, and AWS hears nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from snakemake_executor_ec2.errors import ConfigurationError


@contextmanager
def rehearsing() -> Iterator[None]:
    """An embedded cloud that lives as long as the block. Raises ConfigurationError where its packages
    are missing or it does not start."""
    try:
        from snakemake_executor_ec2.local.cloud import CloudStartError, EmbeddedCloud
    except ImportError as error:
        raise ConfigurationError(
            "--ec2-cloud local needs more packages: pip install 'snakemake-executor-plugin-ec2[local]'"
        ) from error
    with ExitStack() as stack:
        try:
            embedded = stack.enter_context(EmbeddedCloud())
        except CloudStartError as error:
            raise ConfigurationError(str(error)) from error
        stack.enter_context(_environment(embedded.env, embedded.unset))
        yield


@contextmanager
def _environment(variables: Mapping[str, str], unset: Iterable[str]) -> Iterator[None]:
    """Environment variables that point every AWS client of this process somewhere else."""
    ours = {*variables, *unset, "SNAKEMAKE_EC2_SSH_PORT"}
    before = {name: os.environ.pop(name, None) for name in ours}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
