"""The way in for tests and tools: faults, what the cloud is doing, and which calls it was sent.

JSON under `/_embedded/`, for whoever sends `Authorization: Bearer TOKEN`, TOKEN being
$SNAKEMAKE_EC2_CONTROL_TOKEN:

    GET    state                        {"instances": […], "isolated": …, "ssh_port": …, "pid": …}
    GET    calls[?action=NAME]          every API call since the start, oldest first
    DELETE calls                        forget them
    GET    faults, DELETE faults[/ID]   what is in force; clear all, or one
    POST   faults                       {"kind": …, …} → {"id": …}; kinds are in `faultbook.KINDS`
    POST   instances/ID/ACTION          crash, cut, half-open, refuse, spot-notice, spot-reclaim, impostor
    POST   instances/ID/shell           {"command": …} → {"status": …, "output": …}, run as root
    PUT    policy                       {"policy": TEXT or null}: what callers of the API may do
    GET    checkip                      the caller's address, as https://checkip.amazonaws.com
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .iam import PolicyError
from .wrap.calls import Call, Response

if TYPE_CHECKING:
    from .fleet import Fleet

SetPolicy = Callable[[str | None], None]

PREFIX = "/_embedded/"
_CALLS_KEPT = 50_000
_NOTICE_S = 120.0


class CallLog:
    """Every API call, in the order of arrival. Any thread may use it."""

    def __init__(self) -> None:
        self._calls: deque[dict[str, Any]] = deque(maxlen=_CALLS_KEPT)
        self._lock = threading.Lock()

    def add(self, call: Call) -> dict[str, Any]:
        """Enter a call; the entry, to which its answer's status is added later."""
        entry = {
            "time": call.time,
            "service": call.service,
            "action": call.action,
            "region": call.region,
            "access_key": call.access_key,
            "params": dict(call.params),
            "status": None,
            "error": "",
        }
        with self._lock:
            self._calls.append(entry)
        return entry

    def entries(self, action: str | None) -> list[dict[str, Any]]:
        with self._lock:
            return [entry for entry in self._calls if action in (None, entry["action"])]

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()


class Control:
    """Answers the requests below `PREFIX`."""

    def __init__(self, fleet: Fleet, log: CallLog, facts: dict[str, Any], set_policy: SetPolicy) -> None:
        self._fleet = fleet
        self._log = log
        self._facts = facts
        self._set_policy = set_policy

    def answer(self, environ: dict[str, Any]) -> Response:
        words = environ["PATH_INFO"].removeprefix(PREFIX).strip("/").split("/")
        method = environ["REQUEST_METHOD"]
        query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            given = json.loads(body or b"{}")
            found = self._dispatch(method, words, query, given, environ["REMOTE_ADDR"])
        except KeyError as error:
            return _json({"error": f"no {error}"}, 404)
        except (ValueError, TypeError, PolicyError) as error:
            return _json({"error": str(error)}, 400)
        return _json(found)

    def _dispatch(
        self, method: str, words: list[str], query: dict[str, str], given: dict[str, Any], peer: str
    ) -> Any:
        match method, words:
            case "GET", ["state"]:
                return {"instances": self._fleet.facts(), **self._facts}
            case "GET", ["calls"]:
                return self._log.entries(query.get("action"))
            case "DELETE", ["calls"]:
                return _done(self._log.clear)
            case "GET", ["faults"]:
                return self._fleet.faults.entries()
            case "POST", ["faults"]:
                return {"id": self._fleet.faults.add(**given)}
            case "DELETE", ["faults"]:
                return _done(self._fleet.faults.clear)
            case "DELETE", ["faults", fault_id]:
                return _done(self._fleet.faults.remove, int(fault_id))
            case "POST", ["instances", instance_id, action]:
                return self._do(instance_id, action, given)
            case "PUT", ["policy"]:
                return _done(self._set_policy, given["policy"])
            case "GET", ["checkip"]:
                return peer
        raise ValueError(f"{method} {'/'.join(words)} is not part of the control interface")

    def _do(self, instance_id: str, action: str, given: dict[str, Any]) -> dict[str, Any]:
        fleet = self._fleet
        if action in ("crash", "cut", "half-open", "refuse"):
            fleet.trouble(instance_id, action, float(given.get("seconds", 0)))
        elif action == "shell":
            status, output = fleet.shell(instance_id, str(given["command"]))
            return {"status": status, "output": output.decode(errors="replace")}
        elif action == "impostor":
            connections = given.get("connections")
            fleet.get(instance_id).meet_impostor(float("inf") if connections is None else connections)
        elif action == "spot-reclaim":
            fleet.reclaim_spot(instance_id)
        elif action == "spot-notice":
            after_s = given.get("after_s", _NOTICE_S)
            when = time.gmtime(time.time() + (after_s or _NOTICE_S))
            notice = {"action": "terminate", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", when)}
            fleet.notify_spot(instance_id, notice, after_s)
        else:
            raise ValueError(f"nothing called {action!r} can happen to an instance")
        return {}


def _done(call: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    call(*arguments)
    return {}


def _json(document: Any, status: int = 200) -> Response:
    headers = [("Content-Type", "application/json")]
    return Response(status=status, headers=headers, body=json.dumps(document).encode())
