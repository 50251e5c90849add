"""What machines need installed and given, read off a workflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_storage_plugin_s3 import StorageProvider, StorageProviderSettings

from snakemake_executor_ec2.plugin.software import lacks_bucket_credentials, storage_in_use
from snakemake_executor_ec2.sizing.late import comes_late


def _workflow(*keys: str | None, profile: str | None = None) -> Any:
    """One with a storage provider for each access key; None: that of the user's configuration of AWS."""
    providers = {}
    for number, key in enumerate(keys):
        provider = StorageProvider.__new__(StorageProvider)
        provider.settings = StorageProviderSettings(access_key=key)
        providers[f"tag{number}"] = provider
    settings = {"s3": "settings of s3", "gcs": "settings of gcs"}
    registry = SimpleNamespace(_storages=providers)
    return SimpleNamespace(
        storage_registry=registry,
        storage_provider_settings=settings,
        executor_settings=SimpleNamespace(instance_profile=profile),
    )


def test_only_storage_in_use_goes_to_machines() -> None:
    """Plugins that are installed here but not used are neither installed there, nor their settings sent."""
    assert storage_in_use(_workflow()) == {}
    assert storage_in_use(_workflow("key", "other key")) == {"s3": "settings of s3"}


@pytest.mark.parametrize(
    ("keys", "given", "lacks"),
    [
        ((), (), False),
        (("key",), (), False),
        (("key", None), (), True),
        ((None,), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), False),
    ],
)
def test_credentials_that_stay_here_are_noticed(
    keys: tuple[str | None, ...], given: tuple[str, ...], lacks: bool
) -> None:
    """Buckets that are opened with this computer's AWS configuration are closed to machines."""
    assert lacks_bucket_credentials(_workflow(*keys), given) is lacks
    assert not lacks_bucket_credentials(_workflow(*keys, profile="buckets"), given)


_GROUP = {"members": [{"request": {"benchmark": None}}, {"request": {"benchmark": "b.tsv"}}]}


@pytest.mark.parametrize(
    ("direct", "given", "late"),
    [
        (None, {}, False),
        ({"benchmark": None}, {}, True),
        ({"benchmark": "b.tsv"}, {}, False),
        (_GROUP, {}, False),
        ({"members": _GROUP["members"][:1]}, {}, True),
        ({"benchmark": None}, {"requirements": "pandas"}, False),
        ({"benchmark": None}, {"setup": "true"}, False),
    ],
)
def test_software_comes_late_where_nothing_is_lost_by_it(
    direct: Any, given: dict[str, str], late: bool
) -> None:
    """Not under a benchmark, which would measure the installation, in groups as elsewhere."""
    assert comes_late(direct, **{"requirements": "", "setup": "", **given}) is late
