"""A pytest plugin that keeps every Nth test, the same ones each time."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    step = int(os.environ["EC2_CONFORMANCE_SAMPLE"])
    config.hook.pytest_deselected(items=[item for i, item in enumerate(items) if i % step])
    items[:] = items[::step]
