"""The controller's side of the agent's commands `serve` and `fetch`: files from machine to machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from snakemake_executor_ec2.agent.answers import texts
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.agent.peer_terms import FetchedFiles, Peer, Wanted
from snakemake_executor_ec2.errors import StagingError

_WORDS = 300
_BEFORE_S = 60.0
_SLOWEST = 1 << 20
"""Bytes a second: below it, `agent/peers.py` has given up long before."""


class PeerAgent(Agent):
    """The agent of a machine that gets files from another one."""

    def fetch(self, peer: Peer, files: Sequence[Wanted]) -> FetchedFiles:
        """Get files into its cache, in the order in which the peer serves them. Raises StagingError."""
        request = {
            "address": peer.address,
            "port": peer.port,
            "user": peer.user,
            "host_keys": peer.host_keys,
            "key": peer.key,
            "certificate": peer.certificate,
            "files": [[each.name, each.size, each.sha256] for each in files],
        }
        timeout_s = _BEFORE_S + sum(each.size for each in files) / _SLOWEST
        answer = self._ask(StagingError, "fetch", request, timeout_s=timeout_s)
        why = answer.get("why")
        return FetchedFiles(
            **{kind: _names(answer, kind, files) for kind in ("there", "missing", "wrong")},
            why=why[:_WORDS] if isinstance(why, str) else "",
            reached=answer.get("reached") is True,
        )

    def end_fetch(self) -> None:
        """End a `fetch` whose answer was lost, and with it the key that it has. Raises StagingError."""
        self._ask(StagingError, "fetch", {"files": []})


def _names(answer: dict[str, Any], kind: str, files: Collection[Wanted]) -> frozenset[str]:
    return frozenset(texts(answer.get(kind))).intersection(each.name for each in files)
