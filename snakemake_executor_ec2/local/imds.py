"""The instance metadata service (version 2 only), one an instance, on the instance's own address.

All of this computer can reach that address. Only the instance itself knows the path that answers.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

_HEAD_LIMIT = 16384
_LONGEST_TOKEN_S = 6 * 3600
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
}


class MetadataService:
    """Answers what `lookup` knows: a path below `/latest/` → its text, or None."""

    def __init__(
        self, address: str, lookup: Callable[[str], str | None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._lookup = lookup
        self._now = now
        self._tokens: dict[str, float] = {}
        self._secret = f"/{secrets.token_urlsafe(16)}"
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """Listen; the endpoint for `AWS_EC2_METADATA_SERVICE_ENDPOINT`."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self._address, 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://{self._address}:{port}{self._secret}"

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            status, body = self._answer(head[:_HEAD_LIMIT].decode("latin-1"))
            writer.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain\r\nServer: EC2ws\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()

    def _answer(self, head: str) -> tuple[int, bytes]:
        request, *lines = head.split("\r\n")
        method, target = [*request.split(" "), "", ""][:2]
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (ln.partition(":") for ln in lines)
        }
        path = target.partition("?")[0]
        if not path.startswith(f"{self._secret}/"):
            return 404, b""
        path = path.removeprefix(self._secret)
        if path == "/latest/api/token":
            if method != "PUT":
                return 405, b""
            if "x-forwarded-for" in fields:  # a proxy that was talked into it: EC2 gives it no token
                return 403, b""
            ttl = fields.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= _LONGEST_TOKEN_S):
                return 400, b""
            token = secrets.token_urlsafe(40)
            self._tokens[token] = self._now() + int(ttl)
            return 200, token.encode()
        if self._now() >= self._tokens.get(fields.get("x-aws-ec2-metadata-token", ""), -1.0):
            return 401, b""
        if method != "GET":
            return 405, b""
        text = self._lookup(path.removeprefix("/latest/").rstrip("/"))
        return (404, b"") if text is None else (200, text.encode("utf-8", "surrogateescape"))


def metadata(
    facts: dict[str, str],
    spot_notice: dict[str, str] | None,
    role: dict[str, dict[str, str]],
    path: str,
) -> str | None:
    """What the service knows of an instance; a folder is the list of what is in it. `role` is what it has of
    the instance's profile: see `Launch.role`."""
    tree = {
        "meta-data/ami-id": facts["image_id"],
        "meta-data/hostname": facts["hostname"],
        "meta-data/instance-id": facts["instance_id"],
        "meta-data/instance-life-cycle": facts["market"],
        "meta-data/instance-type": facts["instance_type"],
        "meta-data/local-hostname": facts["hostname"],
        "meta-data/local-ipv4": facts["address"],
        "meta-data/placement/availability-zone": facts["zone"],
        "meta-data/placement/region": facts["zone"][:-1],
        "meta-data/public-ipv4": facts["address"],
        "user-data": facts["user_data"],
        "dynamic/instance-identity/document": json.dumps(
            {
                "availabilityZone": facts["zone"],
                "imageId": facts["image_id"],
                "instanceId": facts["instance_id"],
                "instanceType": facts["instance_type"],
                "privateIp": facts["address"],
                "region": facts["zone"][:-1],
            }
        ),
    }
    if spot_notice is not None:
        tree["meta-data/spot/instance-action"] = json.dumps(spot_notice)
        tree["meta-data/spot/termination-time"] = spot_notice["time"]
    for name, document in role.items():
        folder = "meta-data/iam" if name == "info" else "meta-data/iam/security-credentials"
        tree[f"{folder}/{name}"] = json.dumps(document)
    if path in tree:
        return tree[path] or None
    below = {name[len(path) :].lstrip("/") for name in tree if not path or name.startswith(f"{path}/")}
    entries = {rest.partition("/")[0] + ("/" if "/" in rest else "") for rest in below}
    return "\n".join(sorted(entries)) or None
