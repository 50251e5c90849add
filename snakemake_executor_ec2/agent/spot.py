"""The two minutes' notice that a spot machine gets, from the instance's metadata (IMDSv2)."""

from __future__ import annotations

import http.client
import json
import os
import urllib.parse

_TOKEN_S = 21600


class SpotNotice:
    """Asks for the notice. `poll` blocks for a second at most, and stops asking off EC2."""

    def __init__(self) -> None:
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
        parts = urllib.parse.urlsplit(endpoint)
        self._host = parts.hostname or "169.254.169.254"
        self._port = parts.port or 80
        self._base = parts.path.rstrip("/")
        self._token = ""
        self._failures = 0
        self._answered = False

    @property
    def is_over(self) -> bool:
        """True if nobody ever answered: this is no EC2 machine."""
        return not self._answered and self._failures >= 3

    def poll(self) -> dict[str, str] | None:
        """{"action": "terminate", "time": "2026-…Z"} once EC2 wants the machine back, else None."""
        try:
            if not self._token:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
                status, body = self._ask("PUT", "/latest/api/token", headers)
                if status != 200:  # something answers there, but no EC2
                    self._failures += 1
                    return None
                self._token = body.decode("latin-1").strip()
            headers = {"X-aws-ec2-metadata-token": self._token}
            status, body = self._ask("GET", "/latest/meta-data/spot/instance-action", headers)
        except (OSError, http.client.HTTPException):
            self._failures += 1
            return None
        self._answered = True
        if status == 401:
            self._token = ""
        if status != 200:
            return None
        try:
            notice = json.loads(body)
            return {"action": str(notice["action"]), "time": str(notice["time"])}
        except (ValueError, TypeError, KeyError):
            return None

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=1)
        try:
            connection.request(method, self._base + path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(65536)
        finally:
            connection.close()
