"""What has to be installed on machines, found out on the controller."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.plugin import parse_reads, snakemake_private
from snakemake_executor_ec2.plugin.imports import imports
from snakemake_executor_ec2.plugin.job_plan import deployment_tools, workflow_folders
from snakemake_executor_ec2.staging.script_imports import lacking

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LEADS_ELSEWHERE = re.compile(r"(?m)^\s*(-r|--requirement|-e|--editable)\b")
_SCRIPT = re.compile(r"[^\s'\"=;|&()<>]+\.py(?![\w.])")


def software_for(workflow: Any, warn: Callable[[str], None]) -> Software:
    """The controller's Snakemake with the storage plugins that the workflow uses, what its Snakefiles
    import, and what the options `--ec2-requirements` and `--ec2-setup` name.

    Raises ConfigurationError for a file that cannot be read.
    """
    settings = workflow.executor_settings
    requirements = _text(settings.requirements, "--ec2-requirements")
    imported = imports(
        parse_reads.codes(), own=[Path.cwd(), *workflow_folders(workflow)], requirements=requirements
    )
    for here, wanted in imported.overruled:
        warn(
            f"Snakefiles use {here} on your computer and {wanted} on machines, as --ec2-requirements demands"
        )
    for module, place in imported.elsewhere:
        warn(
            f"a Snakefile imports {module}, which your computer has from {place} and not from a package "
            "index: machines lack it unless --ec2-requirements, --ec2-setup or the image provides it"
        )
    plugins = [_pinned(f"snakemake-storage-plugin-{name}") for name in sorted(storage_in_use(workflow))]
    if not settings.setup and not settings.ami and not _LEADS_ELSEWHERE.search(requirements):
        have = ["snakemake", *plugins, *imported.pinned, *requirements.splitlines()]
        own = [Path.cwd(), *workflow_folders(workflow)]
        if lacks := lacking(_scripts(workflow), own=own, have=have):
            warn(
                f"scripts of the workflow import packages that machines lack: {', '.join(lacks)}. To install "
                "them there, write these lines into a file and name it with --ec2-requirements."
            )
    return Software(
        snakemake=version("snakemake"),
        packages=(*plugins, *imported.pinned),
        requirements=requirements,
        setup=_text(settings.setup, "--ec2-setup"),
        late=_programs(["snakemake", *plugins, *imported.pinned]),
    )


def _scripts(workflow: Any) -> Iterator[Path]:
    """The Python scripts and notebooks that jobs are going to run with the machine's own Python."""
    seen: set[str] = set()
    for job in workflow.dag.needrun_jobs():
        rule = job.rule
        if job.is_local or rule.name in seen or deployment_tools([job]):
            continue
        seen.add(rule.name)
        if rule.is_shell:
            paths = [Path(word) for word in _SCRIPT.findall(_command(job))]
        else:
            folder = Path(str(rule.basedir.get_path_or_uri(secret_free=True)))
            paths = [folder / str(name) for name in (rule.script, rule.notebook) if name]
        yield from (path for path in paths if path.name.endswith((".py", ".py.ipynb")) and path.is_file())


def _command(job: Any) -> str:
    try:
        return str(job.shellcmd)
    except Exception:  # of a function of the workflow's: later, in time, it may do
        return str(job.rule.shellcmd)


def storage_in_use(workflow: Any) -> dict[str, Any]:
    """The settings of the storage plugins that the workflow uses, by their names.

    Snakemake itself would pass on those of every installed plugin: the machine would have to install them
    all, and would get credentials that it does not need.
    """
    from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

    settings = workflow.storage_provider_settings or {}
    in_use = {type(provider) for provider in snakemake_private.storage_providers(workflow)}
    plugins = StoragePluginRegistry().plugins.items()
    return {name: settings.get(name) for name, plugin in sorted(plugins) if plugin.storage_provider in in_use}


def lacks_bucket_credentials(workflow: Any, given: Collection[str]) -> bool:
    """Whether files are in S3, and what the machines are given (names of environment variables)
    lets them into no bucket: a configuration of AWS stays on this computer."""
    if workflow.executor_settings.instance_profile:
        return False
    providers = snakemake_private.storage_providers(workflow)
    in_s3 = [one for one in providers if type(one).__module__ == "snakemake_storage_plugin_s3"]
    return "AWS_ACCESS_KEY_ID" not in given and any(not one.settings.access_key for one in in_s3)


def _programs(requirements: Iterable[str]) -> tuple[str, ...]:
    """Names of the programs that an installation of some packages brings, as it does on this computer."""
    names, seen = {"python", "python3", "pip", "pip3"}, set[str]()
    waiting = [_NAME.match(requirement) for requirement in requirements]
    while waiting:
        match = waiting.pop()
        package = match.group().lower() if match else ""
        if package in seen:
            continue
        seen.add(package)
        with suppress(PackageNotFoundError, ValueError):
            found = distribution(package)
            names.update(each.name for each in found.entry_points if each.group == "console_scripts")
            waiting.extend(_NAME.match(text) for text in found.requires or () if "extra ==" not in text)
    return tuple(sorted(names))


def _pinned(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def _text(file: str | None, option: str) -> str:
    if not file:
        return ""
    try:
        return Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{option} {file}: the file cannot be read ({why})") from error
