"""`run FILE`: Snakemake on the machine, which computes what the controller decided, or says why not.

Snakemake parses the Snakefile again and resolves the job again, from what was sent. The file, made by
the controller (`plugin/decision.py`), says what must come out of that. What can be set is set to the decided
value: input, output, log, benchmark, params, resources, config. What can't is compared before anything runs:
the rule's code, the formatted shell command, the globals that `run:` bodies read. A difference ends the job
with a sentence.

Runs in Snakemake's own Python, not in the agent's. Uses parts of Snakemake that it does not promise to keep;
all are in this module and in `decided.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.agent import procs
from snakemake_executor_ec2.agent.state import command_line

from . import decided, places, snakemake_private, values
from .arguments import MARK, exact_arguments
from .rule_overrides import Decision, filled, hold_rules_to

_EXECUTOR = "decided"
_PAUSE_S = 0.5
_AROUND = 60


class Differs(Exception):
    """The job would not compute what was decided: one sentence, for the user."""


def main(path: str) -> int:
    """Run what a file says; Snakemake's exit status."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    program = command_line(python=sys.executable)
    _forget_the_agent()
    if document["imports_from_workdir"]:
        sys.path.insert(0, document["began_in"] or str(Path.cwd()))
    return _Runner(document, path, program).run()


def _forget_the_agent() -> None:
    """Let Snakemake find an installed plugin of ours rather than the few modules in this archive."""
    sys.path[:] = [place for place in sys.path if not place.endswith(".pyz")]
    for name in [name for name in sys.modules if name.partition(".")[0] == "snakemake_executor_ec2"]:
        del sys.modules[name]


class _Runner:
    """One call of Snakemake, and what it is held to."""

    def __init__(self, document: dict[str, Any], path: str, program: list[str]) -> None:
        self.document = document
        self.path = path
        self.program = program
        self.jobs = {_key(job): job for job in document["jobs"]}
        self._inner = 0

    def run(self) -> int:
        from snakemake import cli
        from snakemake.exceptions import print_exception
        from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
        from snakemake_interface_executor_plugins.utils import TargetSpec

        ExecutorPluginRegistry().register_plugin(f"snakemake_executor_plugin_{_EXECUTOR}", _plugin(self))
        hold_rules_to(self)
        _hold_workflow_to(self)
        try:
            parser, options = cli.parse_args([*self.document["argv"], "--executor", _EXECUTOR])
            options.target_jobs = [TargetSpec(name, dict(given)) for name, given in self.document["targets"]]
            if self.document["unneeded_temp_files"]:
                options.unneeded_temp_files = frozenset(self.document["unneeded_temp_files"])
            places.lead_home(self.document["home"])
            places.call_snakefile(self.document["snakefile"], options)
            if self.document["began_in"]:
                places.begin_in(self.document["began_in"], options)
            return 0 if cli.args_to_api(options, parser) else 1
        except Differs as error:
            print(error, file=sys.stderr)
        except Exception as error:  # as Snakemake's own `main` does
            print_exception(error)
        return 1

    def refuse(self, job: Decision, what: str) -> Differs:
        """The end of a job that would compute something else; noted for the agent, raised by the caller."""
        sentence = f"{job['label']} was not run, because {what}"
        with Path(f"{self.path}.differs").open("a", encoding="utf-8", errors="replace") as file:
            file.write(sentence + "\n")
        return Differs(sentence)

    def of(self, rule: Any, wildcards: Any) -> Decision | None:
        """What was decided of a job; None for one that nobody decided, before which others may stand."""
        return self.jobs.get(decided.key_of(rule, wildcards))

    def spawn(self, job: Any, argv: list[str]) -> None:
        """Run one job of a group in a process of its own, held to the same decision.

        Raises CalledProcessError.
        """
        told = self.of(job.rule, job.wildcards_dict)
        assert told is not None
        self._inner += 1
        path = f"{self.path}.{self._inner}"
        document = {
            **self.document,
            "argv": argv,
            "targets": [[told["rule"], told["wildcards"]]],
            "unneeded_temp_files": list(job.dag.get_unneeded_temp_files(job)),
            "jobs": [told],
        }
        Path(path).write_text(json.dumps(document), encoding="utf-8")
        try:
            subprocess.run([*self.program, "run", path], check=True)
        finally:
            differs = Path(f"{path}.differs")
            if differs.exists():
                differs.replace(f"{self.path}.differs")

    # --- before the command is run --------------------------------------------------------

    def check_all(self, workflow: Any) -> None:
        """Look at all jobs without running one, and end this process (see `preflight/`)."""
        status = 0
        for told in self.jobs.values():
            try:
                rule = self._check_code(workflow, told)
                job = workflow.async_run(workflow.dag.new_job(rule, wildcards_dict=dict(told["wildcards"])))
                snakemake_private.set_jobid(workflow, job, told["jobid"])
                self.check(job)
            except Differs:
                status = 1
        os._exit(status)  # nothing is to be cleaned up: the folder goes as a whole

    def check_code(self, workflow: Any) -> None:
        """Rules are as they were when the controller parsed the Snakefile. Raises Differs."""
        for told in self.jobs.values():
            self._check_code(workflow, told)

    def _check_code(self, workflow: Any, told: Decision) -> Any:
        try:
            rule = workflow.get_rule(told["rule"])
        except Exception as error:
            raise self.refuse(told, "the Snakefile defines no such rule on the machine.") from error
        rule.restart_times = 0  # retries are the controller's, each on a machine sized for it
        self._set_config(rule, told)
        for part, code in decided.code_of(rule).items():
            if not values.same_text(code, told["code"][part]):
                raise self.refuse(
                    told,
                    f"the rule's {part} directive is not the same on the machine as on your computer: "
                    f"{_difference(told['code'][part] or 'none', code or 'none')}",
                )
        return rule

    def _set_config(self, rule: Any, told: Decision) -> None:
        config = self.document["configs"].get(told["config"])
        here = rule.run_func.__globals__.get("config") if rule.run_func else None
        if config is None or here is None or values.same(values.encode(here), config):
            return
        if not values.is_plain(config):
            raise self.refuse(told, "its config is not the same on the machine as on your computer.")
        here.clear()
        here.update(values.decode(config))

    def check(self, job: Any) -> None:
        """The job computes what was decided. Raises Differs."""
        told = self.of(job.rule, job.wildcards_dict)
        if told is None:
            name = job.rule.name
            raise self.refuse(
                {"label": f"rule {name}"}, "the machine's Snakemake chose it, and your computer did not."
            )
        differing = self._differing_globals(job.rule, told)
        if job.rule.is_shell:
            self._check_shell(job, told, differing)
        elif differing:
            raise self.refuse(told, _of_globals(differing))

    def _check_shell(self, job: Any, told: Decision, differing: list[tuple[list[str], Any, Any]]) -> None:
        if told["shell"] is None:  # it could not be formatted on the controller either
            return
        text = self._shell_text(job, told)
        if values.same_text(text, told["shell"]):
            return
        if differing:
            raise self.refuse(told, _of_globals(differing))
        raise self.refuse(
            told,
            "its shell command is not the same on the machine as on your computer: "
            + _difference(told["shell"], text),
        )

    def _shell_text(self, job: Any, told: Decision) -> str:
        from snakemake.common import tbdstring

        undecided = tbdstring.TBDString()
        params = filled(type(job.params), told["params"], list(job.params), undecided)
        resources = filled(type(job.resources), told["resources"], list(job.resources), undecided)
        try:
            return decided.shell_text(job, params=params, resources=resources, jobid=told["jobid"]) or ""
        except Exception as error:
            raise self.refuse(
                told, f"its shell command can't be formatted on the machine: {error}"
            ) from error

    def _differing_globals(self, rule: Any, told: Decision) -> list[tuple[list[str], Any, Any]]:
        """Globals that are not what they were, but for those of another order, which are set."""
        differing = []
        for path, value in told["globals"]:
            try:
                here = decided.look_up(rule, path)
            except LookupError:
                here = {"t": "opaque", "told": "not there"}
            if values.same(here, value):
                continue
            if values.only_order_differs(here, value) and values.is_plain(value):
                decided.put(rule, path, values.decode(value))
            else:
                differing.append((path, value, here))
        return differing


def _key(job: Decision) -> decided.Key:
    return job["rule"], tuple(sorted(job["wildcards"].items()))


def _of_globals(differing: list[tuple[list[str], Any, Any]]) -> str:
    told = [
        f"`{_name(path)}` is {values.tell(value)} on your computer and {values.tell(here)} on the machine"
        for path, value, here in differing[:3]
    ]
    order = [values.only_order_differs(value, here) for _, value, here in differing]
    hint = (
        "sort it in the Snakefile; for sets it is enough to run snakemake with PYTHONHASHSEED=0"
        if all(order)
        else "declare the files that the Snakefile looks at as input, name them with --ec2-include, or give "
        "the value to the rule as params"
    )
    return (
        "its code reads what the Snakefile computes differently on the machine: "
        f"{'; '.join(told)}. To fix it, {hint}."
    )


def _name(path: list[str]) -> str:
    return ".".join(step for step in path if step != "__globals__")


def _difference(one: str, other: str) -> str:
    """Where two texts part, for a sentence."""
    at = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    begin = max(0, at - _AROUND // 3)
    here, there = one[begin : at + _AROUND], other[begin : at + _AROUND]
    return f"{here!r} on your computer, {there!r} on the machine"


def _hold_workflow_to(runner: _Runner) -> None:
    def checked(workflow: Any, build: Callable[[], None]) -> None:
        if runner.document.get("check"):
            runner.check_all(workflow)
        runner.check_code(workflow)
        build()
        for job in workflow.dag.jobs:
            told = runner.of(job.rule, job.wildcards_dict)
            if told is not None:
                snakemake_private.set_jobid(workflow, job, told["jobid"])

    snakemake_private.around_the_dag(checked)


def _plugin(runner: _Runner) -> types.ModuleType:
    """The local executor, which looks at each job before it is prepared."""
    from snakemake.executors import local

    class Executor(local.Executor):  # type: ignore[misc]  # Snakemake has no types
        def run_single_job(self, job: Any) -> Any:
            try:
                runner.check(job)
            except Differs as error:
                return self.pool.submit(_raise, error)
            return super().run_single_job(job)

        def spawn_job(self, job: Any) -> None:
            from snakemake.exceptions import SpawnedJobError

            try:
                runner.spawn(job, exact_arguments(self, job)[1])
            except subprocess.CalledProcessError as error:
                raise SpawnedJobError from error

        def get_python_executable(self) -> str:
            return MARK

        def shutdown(self) -> None:
            with _no_command_left():
                super().shutdown()

    module = types.ModuleType(f"snakemake_executor_plugin_{_EXECUTOR}")
    module.Executor = Executor  # type: ignore[attr-defined]
    module.common_settings = local.common_settings  # type: ignore[attr-defined]
    return module


@contextmanager
def _no_command_left() -> Iterator[None]:
    """Meanwhile, end whatever command runs. When a job of a pipe group fails, Snakemake ends the commands of
    the others that have begun: one that begins later would wait for the other end of its pipe for ever."""
    from snakemake.shell import shell

    over = threading.Event()

    def end_commands() -> None:
        while not over.wait(_PAUSE_S):
            for jobid, process in snakemake_private.running_commands():
                procs.kill(procs.tree_of(process.pid))
                shell.kill(jobid)

    threading.Thread(target=end_commands, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _raise(error: Exception) -> None:
    raise error
