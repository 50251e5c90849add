"""Scripts in R, bash and Julia, as Snakemake would write them on the machine: they need no Snakemake there.

Python's are left to it: they unpickle objects of Snakemake's.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from snakemake_executor_ec2.agent.direct import SCRIPT
from snakemake_executor_ec2.runner import decided

_LANGUAGES = {"RScript": ".R", "BashScript": ".sh", "JuliaScript": ".jl"}
"""Snakemake's classes of `snakemake.script`, and the names that they are chosen by."""


class Script(NamedTuple):
    """A rule's script, ready to run."""

    command: str
    """With `SCRIPT` for the place of the file."""
    name: str
    text: str


def can_be_written_here(rule: Any) -> bool:
    """Whether a rule's script is in one of the languages for which Snakemake writes plain text."""
    return bool(rule.is_script) and str(rule.script).endswith(tuple(_LANGUAGES.values()))


def script_of(job: Any, *, params: Any, resources: Any) -> Script | None:
    """What Snakemake would write and call; None if that is not one script of this computer.

    Snakemake's own code is run, with something in the place of its classes that takes down what they
    would write and start. Raises what that raises.
    """
    from snakemake import script as module
    from snakemake.utils import format as formatted

    taken: list[Script] = []

    def taking_down(kind: Any) -> Any:
        class TakingDown(kind):  # type: ignore[misc]
            def evaluate(self, edit: bool = False) -> None:
                del edit
                if self.is_local:
                    file = io.BytesIO()
                    self.write_script(self.get_preamble(), file)
                    self._text = file.getvalue().decode()
                    self.execute_script(SCRIPT)

            def _execute_cmd(self, cmd: str, **kwargs: Any) -> None:
                command = formatted(cmd, stepout=1, **kwargs)
                taken.append(Script(command=command, name=self.path.get_filename(), text=self._text))

        return TakingDown

    classes = {name: taking_down(getattr(module, name)) for name in _LANGUAGES}
    replaced = decided.with_globals(module.script, **classes)
    if job.rule.run_func.__globals__.get("script") is not module.script:
        return None
    decided.call_rule(job, params=params, resources=resources, jobid=job.jobid, script=replaced)
    return taken[0] if len(taken) == 1 else None
