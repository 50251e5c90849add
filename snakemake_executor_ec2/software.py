"""What the machines need installed, read off the controller."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Software


def software_for(workflow: Any) -> Software:
    """The controller's Snakemake with the storage plugins that the workflow uses, and what the
    options `--ec2-requirements` and `--ec2-setup` name.

    Raises ConfigurationError for a file that cannot be read.
    """
    settings = workflow.executor_settings
    return Software(
        snakemake=version("snakemake"),
        packages=tuple(_pinned(name) for name in sorted(_storage_packages(workflow))),
        requirements=_text(settings.requirements, "--ec2-requirements"),
        setup=_text(settings.setup, "--ec2-setup"),
    )


def _storage_packages(workflow: Any) -> set[str]:
    providers = set(workflow.storage_provider_settings or {})
    if workflow.storage_settings.default_storage_provider:
        providers.add(workflow.storage_settings.default_storage_provider)
    return {f"snakemake-storage-plugin-{name}" for name in providers}


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
        raise ConfigurationError(f"{option} {file}: cannot be read ({error})") from error
