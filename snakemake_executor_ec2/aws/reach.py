"""What can be found out about the way to AWS without any credentials: its clock, and whether ssh gets out."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime

SSH_HOST = "git-codecommit.us-east-1.amazonaws.com"
"""AWS's own service that answers on ssh's port to everybody; nothing is sent to it."""
_TIMEOUT_S = 5.0


class _Stay(urllib.request.HTTPRedirectHandler):
    """EC2 sends browsers to its product page, whose clock is another one."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def clock_offset_s(url: str, now: Callable[[], float] = time.time) -> float | None:
    """By how many seconds the clock of a web server is ahead of `now`, to about a second, as the `Date` of
    any answer says; None if there is no answer."""
    request = urllib.request.Request(url, method="GET")  # noqa: S310 -- boto3's endpoint
    before = now()
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        with error:
            date = error.headers.get("Date")
    except (OSError, ValueError, http.client.HTTPException):
        return None
    try:
        # A date without its fraction of a second is on average half a second old.
        return parsedate_to_datetime(date).timestamp() + 0.5 - (before + now()) / 2 if date else None
    except (TypeError, ValueError):
        return None


def answers_ssh(host: str = SSH_HOST, port: int = 22) -> bool:
    """Whether a connection to a host's ssh port is answered by an ssh server."""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S) as made:
            made.settimeout(_TIMEOUT_S)
            return made.recv(4) == b"SSH-"
    except OSError:
        return False
