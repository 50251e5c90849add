"""Files in the storage `fs`, a folder that machines do not see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.shared_folders import refuse_shared_folders

PLACES = ("input", "output", "log", "benchmark")


def file_in(plugin: str, query: str) -> Any:
    object_class = type("StorageObject", (), {"__module__": f"snakemake_storage_plugin_{plugin}"})
    storage_object = object_class()
    storage_object.query = query
    return SimpleNamespace(is_storage=True, storage_object=storage_object)


def job_with(place: str, file: Any) -> Any:
    files: dict[str, Any] = {"input": [], "output": [], "log": [], "benchmark": None}
    files[place] = file if place == "benchmark" else [file]
    rule = SimpleNamespace(name="count")
    return SimpleNamespace(is_group=lambda: False, rule=rule, wildcards_dict={}, **files)


def settings(*, setup: str | None = None, ami: str | None = None) -> Any:
    return SimpleNamespace(setup=setup, ami=ami)


@pytest.mark.parametrize("place", PLACES)
def test_a_shared_folder_is_refused(place: str) -> None:
    """Whatever a job has in the storage `fs` is refused, with rule and file, before a launch."""
    job = job_with(place, file_in("fs", "store/a.txt"))

    with pytest.raises(ConfigurationError, match=r"rule count: store/a\.txt is in the storage fs"):
        refuse_shared_folders(job, settings())


@pytest.mark.parametrize("preparation", [{"setup": "mount.sh"}, {"ami": "ami-1"}])
def test_a_folder_that_machines_may_mount_is_not(preparation: dict[str, str]) -> None:
    """An absolute path is taken if something prepares machines, a relative one is not."""
    refuse_shared_folders(job_with("input", file_in("fs", "/efs/a.txt")), settings(**preparation))
    with pytest.raises(ConfigurationError):
        refuse_shared_folders(job_with("input", file_in("fs", "efs/a.txt")), settings(**preparation))


@pytest.mark.parametrize("plugin", ["s3", "http"])
def test_other_storages_are_machines_own_affair(plugin: str) -> None:
    """Buckets and servers are reached by machines themselves."""
    refuse_shared_folders(job_with("input", file_in(plugin, "store/a.txt")), settings())
