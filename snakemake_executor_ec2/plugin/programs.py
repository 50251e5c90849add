"""What a rehearsal cannot show of jobs: programs that only this computer has, GPUs, a large machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.formatting import size
from snakemake_executor_ec2.model import Requirements
from snakemake_executor_ec2.plugin.job_plan import deployment_tools, inner_jobs
from snakemake_executor_ec2.plugin.settings import ExecutorSettings
from snakemake_executor_ec2.report.amazon_linux import PACKAGES, THERE, programs_in, sentence

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where hosts of the embedded cloud find this computer's programs."""
_BY_SUFFIX = {".r": "Rscript", ".rmd": "Rscript", ".jl": "julia", ".sh": "bash", ".rs": "rust-script"}
_MIB = 1 << 20


class Unseen:
    """Of one rehearsal. `tell` shows a sentence to the user, `warn` one that is the reason of a failure."""

    def __init__(
        self, settings: ExecutorSettings, tell: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self._tell, self._warn = tell, warn
        self._strict = settings.strict
        self.fails = False
        """Whether the run is to fail although its jobs have succeeded; known at its end."""
        self._known_image = not settings.ami
        self._installed = "\n".join(map(_text, (settings.setup, settings.requirements)))
        self._used: dict[str, set[str]] = {}
        self._told: set[str] = set()

    def note(self, job: Any, needed: Requirements) -> None:
        """A job of Snakemake's goes to a machine, with these requirements."""
        for each in inner_jobs(job):
            self._tell_of_limits(each.rule.name, needed)
            # A GPU's image has more than the default one.
            if self._known_image and not needed.ami and not needed.gpus and not deployment_tools([each]):
                for program in _programs(each):
                    self._used.setdefault(program, set()).add(each.rule.name)

    def end(self) -> None:
        """Name the programs that jobs have called and the image lacks."""
        lacking = {
            name: sorted(rules)
            for name, rules in self._used.items()
            if name not in THERE and shutil.which(name, path=_PATH) and not self._is_installed(name)
        }
        if lacking and self._strict:
            self.fails = True
            self._warn(f"{sentence(lacking)} This run fails because of --ec2-strict; its results are there.")
        elif lacking:
            self._tell(sentence(lacking))

    def _is_installed(self, name: str) -> bool:
        words = set(self._installed.replace("=", " ").replace("[", " ").split())
        return bool(
            {name, name.lower(), PACKAGES.get(name, name), *(["R"] if name == "Rscript" else [])} & words
        )

    def _tell_of_limits(self, rule: str, needed: Requirements) -> None:
        if rule in self._told:
            return
        self._told.add(rule)
        if needed.gpus:
            self._tell(
                f"rule {rule} asks for a GPU: in a rehearsal, machines have only those of this computer"
            )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
        disk = shutil.disk_usage(tempfile.gettempdir()).free // _MIB
        for what, asked, there in (("memory", needed.mem_mb, memory), ("disk", needed.disk_mb, disk)):
            if asked > there:
                self._tell(
                    f"rule {rule} asks for {size(asked * _MIB)} of {what}, and this computer has "
                    f"{size(there * _MIB)}: a job that uses so much fails here, and not on EC2"
                )


def _programs(job: Any) -> Iterator[str]:
    if job.is_script:
        suffix = Path(str(job.rule.script)).suffix.lower()
        yield from filter(None, [_BY_SUFFIX.get(suffix)])
    with suppress(Exception):  # what a value is may be the machine's to say
        if job.is_shell:
            yield from programs_in(job.shellcmd)


def _text(file: str | None) -> str:
    with suppress(OSError):
        return Path(file).read_text(errors="replace") if file else ""
    return ""
