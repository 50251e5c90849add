"""Talks to a cloud's control interface: makes it fail, and asks what it is doing."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

_TIMEOUT_S = 30.0
# A proxy for the internet has nothing to say about this computer.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ControlError(Exception):
    """The cloud did not understand, or does not know the instance."""


class Faults:
    """What is to go wrong on an embedded cloud. Patterns are the shell's: `m5.*`, `us-east-1?`.

    `count` limits how often it happens, `seconds` for how long; without either until it is cleared.
    """

    def __init__(self, endpoint_url: str, control_token: str) -> None:
        """Both are among the variables that the cloud prints."""
        self._url = f"{endpoint_url}/_embedded/"
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {control_token}"}

    # Launching.

    def no_capacity(
        self,
        type: str = "*",
        *,
        zone: str = "*",
        market: str = "*",
        count: int | None = None,
        code: str = "InsufficientInstanceCapacity",
    ) -> int:
        """RunInstances answers with `code` for these types, zones and markets (`on-demand`, `spot`)."""
        return self.add("capacity", type=type, zone=zone, market=market, count=count, code=code)

    def quota(self, code: str, vcpus: float) -> int:
        """A quota's value, both told and enforced: `L-1216C47A`, `L-34B43A08`, …"""
        return self.add("quota", code=code, value=vcpus)

    def slow_boot(self, seconds: float | None, *, type: str = "*", count: int | None = None) -> int:
        """Machines that are launched from now on answer ssh that much later; None: never."""
        return self.add("slow-boot", delay=seconds, type=type, count=count)

    def wrong_host_key(self, connections: int | None, *, type: str = "*", count: int | None = None) -> int:
        """Machines launched from now on meet their first connections as an impostor would; None: all."""
        return self.add("impostor", connections=connections, type=type, count=count)

    def small_disk(self, mib: int, *, type: str = "*", count: int | None = None) -> int:
        """Machines that are launched from now on have so little room."""
        return self.add("small-disk", bytes=mib << 20, type=type, count=count)

    def wrong_clock(self, ahead_s: float, *, type: str = "*", count: int | None = None) -> int:
        """Machines that are launched from now on have a clock that is so much ahead (negative: behind),
        as far as their Python programs see: see `machine/clock/sitecustomize.py`."""
        return self.add("clock", ahead=ahead_s, type=type, count=count)

    def no_sudo(self, *, type: str = "*", count: int | None = None) -> int:
        """Machines that are launched from now on ask their user for a password before they let it be root."""
        return self.add("no-sudo", type=type, count=count)

    def small_memory(self, mib: int, *, type: str = "*", count: int | None = None) -> int:
        """Machines that are launched from now on have so little memory; what wants more is killed by the
        kernel. If `memory.why_not` says that this can't be, they do not start."""
        return self.add("small-memory", bytes=mib << 20, type=type, count=count)

    # API calls.

    def throttle(self, action: str = "*", *, count: int | None = None, seconds: float | None = None) -> int:
        """Calls are turned away: RequestLimitExceeded, or ThrottlingException from JSON services."""
        return self.add("throttle", action=action, count=count, seconds=seconds)

    def lose_reply(self, action: str, *, count: int | None = 1) -> int:
        """What was asked for is done, and the connection ends without an answer."""
        return self.add("lost-reply", action=action, count=count)

    def deny(self, action: str, *, access_key: str = "*") -> int:
        """Nobody (or not this credential) may do this: UnauthorizedOperation, AccessDeniedException."""
        return self.add("deny", action=action, access_key=access_key)

    def expire_credentials(self, access_key: str = "*") -> int:
        """Calls are answered as AWS answers those of a login that is over."""
        return self.add("expired", access_key=access_key)

    # Machines that run.

    def spot_notice(self, instance_id: str, *, reclaim_after_s: float | None = 120.0) -> None:
        """The metadata service announces the end, which comes after some seconds; None: never."""
        self._on(instance_id, "spot-notice", after_s=reclaim_after_s)

    def spot_reclaim(self, instance_id: str) -> None:
        """Taken back at once, without notice."""
        self._on(instance_id, "spot-reclaim")

    def crash(self, instance_id: str) -> None:
        """The machine stops dead; EC2 goes on saying `running`."""
        self._on(instance_id, "crash")

    def cut(self, instance_id: str) -> None:
        """Its ssh connections end; the machine runs on."""
        self._on(instance_id, "cut")

    def half_open(self, instance_id: str, seconds: float) -> None:
        """Its connections stay open, and no byte passes for a while."""
        self._on(instance_id, "half-open", seconds=seconds)

    def refuse(self, instance_id: str, seconds: float) -> None:
        """New connections to it are refused for a while."""
        self._on(instance_id, "refuse", seconds=seconds)

    def impostor(self, instance_id: str, connections: int | None) -> None:
        """Its next connections are shown another host key; None: all."""
        self._on(instance_id, "impostor", connections=connections)

    def shell(self, instance_id: str, command: str) -> tuple[int, str]:
        """Run a command on it as root, past its sshd: (exit status, output). Kills its processes, fills
        its disk, sets its files. Raises ControlError if it is gone."""
        answer = self.request("POST", f"instances/{instance_id}/shell", {"command": command})
        return answer["status"], answer["output"]

    # The book itself.

    def add(self, kind: str, **details: Any) -> int:
        """Enter any fault of `faultbook.KINDS`; its id."""
        told = {name: value for name, value in details.items() if value is not None or name in _NONE_MEANS}
        fault_id: int = self.request("POST", "faults", {"kind": kind, **told})["id"]
        return fault_id

    def list(self) -> list[dict[str, Any]]:
        """What is in force."""
        entries: list[dict[str, Any]] = self.request("GET", "faults")
        return entries

    def remove(self, fault_id: int) -> None:
        self.request("DELETE", f"faults/{fault_id}")

    def clear(self) -> None:
        """No more faults in the book. What happened to machines stays happened."""
        self.request("DELETE", "faults")

    def request(self, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
        """Any request of the control interface. Raises ControlError."""
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(  # noqa: S310 -- the URL is the cloud's own
            self._url + path, data=data, method=method, headers=self._headers
        )
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise ControlError(f"{method} {path}: {error.code} {text}") from error

    def _on(self, instance_id: str, action: str, **details: Any) -> None:
        self.request("POST", f"instances/{instance_id}/{action}", details)


_NONE_MEANS = ("delay", "connections")
