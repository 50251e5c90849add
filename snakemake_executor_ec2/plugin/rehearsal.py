"""`--ec2-cloud local`: the embedded cloud answers this process, and AWS gets no calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.run_config import SSH_PORT_VARIABLE
from snakemake_executor_ec2.plugin.settings import ExecutorSettings


@contextmanager
def rehearsing() -> Iterator[int]:
    """An embedded cloud that lives as long as the block, and the port of its machines' ssh servers.
    Raises ConfigurationError if its packages are missing or it does not start."""
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
        yield embedded.ssh_port


@contextmanager
def _environment(variables: Mapping[str, str], unset: Iterable[str]) -> Iterator[None]:
    """Environment variables that point every AWS client of this process somewhere else."""
    ours = {*variables, *unset, SSH_PORT_VARIABLE}
    before = {name: os.environ.pop(name, None) for name in ours}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def rehearsal(
    settings: ExecutorSettings, tell: Callable[[str], None], warn: Callable[[str], None]
) -> AbstractContextManager[int] | None:
    """The embedded cloud of a run, if the user asks for it; warns about options that have no effect on it."""
    if settings.cloud != "local":
        return None
    tell("Rehearsing on the embedded cloud on your computer: nothing is billed.")
    if settings.detach or settings.keep_failed:
        warn(
            "the embedded cloud and its machines end with this run: --ec2-detach and "
            "--ec2-keep-failed have no effect here; `snakemake-ec2 cloud` serves one that stays"
        )
    return rehearsing()
