"""`--ec2-cloud local`: the embedded cloud answers this process, and AWS gets no calls."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from snakemake_executor_ec2.controller.config import OwnCloud
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.programs import Unseen
from snakemake_executor_ec2.plugin.settings import ExecutorSettings
from snakemake_executor_ec2.report.levels import Lasting
from snakemake_executor_ec2.ssh.proxy import proxy_command


@contextmanager
def rehearsing(*, proxied: bool = False) -> Iterator[OwnCloud]:
    """An embedded cloud that lives as long as the block. `proxied`: its machines are reached from their own
    network. Raises ConfigurationError if its packages are missing or it does not start."""
    try:
        from snakemake_executor_ec2.local.cloud import CloudStartError, EmbeddedCloud
        from snakemake_executor_ec2.local.environment import applied
        from snakemake_executor_ec2.local.jump import COMMAND as JUMP
    except ImportError as error:
        raise ConfigurationError(
            "--ec2-cloud local needs more packages: pip install 'snakemake-executor-plugin-ec2[local]'"
        ) from error
    with ExitStack() as stack:
        try:
            embedded = stack.enter_context(EmbeddedCloud())
        except CloudStartError as error:
            raise ConfigurationError(str(error)) from error
        stack.enter_context(applied(embedded.env))
        yield OwnCloud(
            ssh_port=embedded.ssh_port,
            ssh_proxy=shlex.join(JUMP) if proxied else None,
            variables=embedded.env,
        )


class Rehearsal:
    """The embedded cloud of a run, and what it cannot show of the jobs that are noted."""

    def __init__(
        self,
        settings: ExecutorSettings,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
        *,
        proxied: bool,
    ) -> None:
        self._cloud = rehearsing(proxied=proxied)
        self._unseen = Unseen(settings, tell, warn)
        self.note = self._unseen.note

    @property
    def fails(self) -> bool:
        """Whether the run is to fail although its jobs have succeeded (--ec2-strict); known at its end."""
        return self._unseen.fails

    def __enter__(self) -> OwnCloud:
        return self._cloud.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._unseen.end()
        self._cloud.__exit__(*error)


def rehearsal(
    settings: ExecutorSettings, tell: Callable[[str], None], warn: Callable[[str], None]
) -> Rehearsal | None:
    """The embedded cloud of a run, if the user asks for it; warns about options that have no effect on it."""
    if settings.cloud != "local":
        return None
    tell(
        Lasting(
            "Rehearsing on the embedded cloud on your computer: nothing is billed, and memory and disk are "
            "not limited."
        )
    )
    if settings.detach or settings.keep_failed:
        warn(
            "the embedded cloud and its machines end with this run: --ec2-detach and "
            "--ec2-keep-failed have no effect here; `snakemake-ec2 cloud` serves one that stays"
        )
    proxied = bool(proxy_command(settings.ssh_proxy))
    if proxied:
        tell(
            "In place of --ec2-ssh-proxy, the embedded cloud's own jump host is used: the program that the "
            "option names does not know its machines."
        )
    elif settings.public_ip == "never":
        tell("Machines have no public address: here your computer counts as one of their network (a VPN).")
    return Rehearsal(settings, tell, warn, proxied=proxied or settings.public_ip == "never")
