"""Tests that take minutes, or more than a user may do, run only where they are asked for."""

from __future__ import annotations

import signal

import pytest

_ASKED_FOR = {
    "slow": "takes minutes",
    "systemd": "boots machines with systemd-nspawn, as root",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, what in _ASKED_FOR.items():
        parser.addoption(f"--{name}", action="store_true", help=f"also run what {what}")


def pytest_configure() -> None:
    # A shell's background job is started with SIGINT ignored, and so would be what it starts: here, what
    # is to be ended by Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so does nohup with this one


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The longest first: short ones fill the end, when one worker would wait for another.
    items.sort(key=lambda item: "/tests/workflow/" not in item.path.as_posix())
    for name, what in _ASKED_FOR.items():
        if config.getoption(f"--{name}"):
            continue
        for item in items:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{what}; runs with --{name}"))
