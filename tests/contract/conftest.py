"""Fixtures of the contract suites."""

from tests.contract.rigs import rig, server

__all__ = ["rig", "server"]
