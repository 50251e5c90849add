"""Snakemake's command line for a job as a list, exactly.

Executors get it as one string for a shell, quoted with Python's `repr`: backslashes double, and the
shell expands `$` and backticks. Used on both ends, by executors that start Snakemake again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MARK = "python-of-the-machine"
"""What an executor answers when it is asked for its Python: where Snakemake's options begin."""


def exact_arguments(executor: Any, job: Any) -> tuple[str, list[str]]:
    """What a shell is to do before it (`--precommand`), and the options for `python -m snakemake`.

    Without `--target-jobs` and `--unneeded-temp-files`, whose values may have any characters: they
    are set by themselves. The executor's `get_python_executable` has to answer `MARK`.
    """
    with _quoted_for_a_shell(), _without_targets(executor.workflow.dag):
        line = str(executor.format_job_exec(job))
    before, _, options = line.partition(f"{MARK} -m snakemake ")
    return before.strip(), shlex.split(options)


@contextmanager
def _without_targets(dag: Any) -> Iterator[None]:
    from snakemake_interface_executor_plugins.executors import real

    encode = real.encode_target_jobs_cli_args
    real.encode_target_jobs_cli_args = lambda _: []
    dag.get_unneeded_temp_files = lambda _: ()
    try:
        yield
    finally:
        real.encode_target_jobs_cli_args = encode
        del dag.get_unneeded_temp_files


@contextmanager
def _quoted_for_a_shell() -> Iterator[None]:
    """Let Snakemake quote what it passes on so that a shell's rules give it back as it was."""
    from snakemake_interface_executor_plugins import utils

    originals = utils.format_cli_pos_arg, utils.format_cli_value
    utils.format_cli_pos_arg, utils.format_cli_value = _positional, _value
    try:
        yield
    finally:
        utils.format_cli_pos_arg, utils.format_cli_value = originals


def _positional(value: Any, quote: bool = True, base64_encode: bool = False) -> str:
    from snakemake_interface_common.utils import not_iterable

    del quote
    if hasattr(value, "items"):
        return " ".join(
            _value(f"{key}={_text(each)}", base64_encode=base64_encode) for key, each in value.items()
        )
    if not_iterable(value):
        return _value(value, base64_encode=base64_encode)
    return " ".join(_value(each, base64_encode=base64_encode) for each in value)


def _value(value: Any, quote: bool = False, base64_encode: bool = False) -> str:
    from snakemake_interface_executor_plugins.utils import encode_as_base64

    del quote
    text = _text(value)
    return encode_as_base64(text) if base64_encode and isinstance(value, str) else shlex.quote(text)


def _text(value: Any) -> str:
    return str(value.item_to_choice()) if hasattr(value, "item_to_choice") else str(value)
