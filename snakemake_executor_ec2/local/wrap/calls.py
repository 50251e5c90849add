"""One API call as it arrives, and answers to it in AWS's words."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_LARGEST_PARSED = 1 << 20

Headers = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Response:
    """A whole HTTP answer."""

    status: int
    headers: Headers
    body: bytes


class ApiError(Exception):
    """An error that AWS would answer with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(kw_only=True)
class Call:
    """A call: which service, which action, with what."""

    service: str
    action: str
    region: str
    access_key: str
    params: dict[str, Any]
    """Form fields as they came (`Filter.1.Name`), or the JSON document."""
    is_json: bool
    time: float = field(default_factory=time.time)
    role_session: str = ""
    """The ARN of an instance's role, if it makes the call."""

    def listed(self, prefix: str) -> list[str]:
        """`prefix.1`, `prefix.2` … of a form, in order."""
        return [str(value) for _, value in self.numbered(prefix)]

    def numbered(self, prefix: str) -> list[tuple[int, str]]:
        start = f"{prefix}."
        found = [
            (int(name[len(start) :]), value)
            for name, value in self.params.items()
            if name.startswith(start) and name[len(start) :].isdigit()
        ]
        return sorted(found)

    def flag(self, name: str) -> bool:
        return str(self.params.get(name, "")).lower() == "true"

    def filters(self) -> dict[str, list[str]]:
        """EC2's filters: name → values."""
        found: dict[str, list[str]] = {}
        number = 1
        while (name := self.params.get(f"Filter.{number}.Name")) is not None:
            found[name] = self.listed(f"Filter.{number}.Value")
            number += 1
        return found

    def tag_specifications(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """The tags that a call gives to what it makes: the kind of resource, and (key, value) pairs."""
        number = 1
        while kind := self.params.get(f"TagSpecification.{number}.ResourceType"):
            yield str(kind), self.pairs(f"TagSpecification.{number}.Tag")
            number += 1

    def pairs(self, prefix: str) -> list[tuple[str, str]]:
        """Tags of a form: (key, value)."""
        pairs, number = [], 1
        while (key := self.params.get(f"{prefix}.{number}.Key")) is not None:
            pairs.append((str(key), str(self.params.get(f"{prefix}.{number}.Value", ""))))
            number += 1
        return pairs

    def put_form(self, environ: dict[str, Any]) -> None:
        """Make `environ` carry the form fields as they are now."""
        body = urlencode(self.params).encode()
        environ["wsgi.input"] = BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))


def read_call(environ: dict[str, Any]) -> Call:
    """What a WSGI request asks for; its body can be read again afterwards."""
    access_key, region, service = _credential_scope(environ.get("HTTP_AUTHORIZATION", ""))
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    kind = environ.get("CONTENT_TYPE", "")
    params: dict[str, Any] = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    if target or kind.startswith("application/x-www-form-urlencoded"):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length <= _LARGEST_PARSED:
            body = environ["wsgi.input"].read(length)
            environ["wsgi.input"] = BytesIO(body)
            if target:
                params = _json_object(body)
            else:
                params |= dict(parse_qsl(body.decode(), keep_blank_values=True))
    action = target.partition(".")[2] or params.get("Action") or environ.get("REQUEST_METHOD", "")
    return Call(
        service=service,
        action=action,
        region=region,
        access_key=access_key,
        params=params,
        is_json=bool(target),
    )


def error_response(call: Call, error: ApiError) -> Response:
    """The error as the service of the call words it."""
    if call.is_json:
        body = json.dumps({"__type": error.code, "message": error.message, "Message": error.message})
        headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-errortype", error.code)]
        return Response(status=error.status, headers=headers, body=body.encode())
    text = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    request_id = uuid.uuid4()
    if call.service == "ec2":
        text = (
            f"<Response><Errors><Error>{text}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
    elif call.service == "s3":
        text = f"<Error>{text}<RequestId>{request_id}</RequestId></Error>"
    else:
        text = f"<ErrorResponse><Error>{text}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    return Response(status=error.status, headers=[("Content-Type", "text/xml")], body=_xml(text))


def json_response(document: Any, status: int = 200) -> Response:
    headers = [("Content-Type", "application/x-amz-json-1.1")]
    return Response(status=status, headers=headers, body=json.dumps(document).encode())


def ec2_response(action: str, content: str) -> Response:
    """An EC2 answer around XML that is already written."""
    head = f'<{action}Response xmlns="{EC2_NAMESPACE}"><requestId>{uuid.uuid4()}</requestId>'
    body = _xml(f"{head}{content}</{action}Response>")
    return Response(status=200, headers=[("Content-Type", "text/xml")], body=body)


def query_response(action: str, content: str, *, namespace: str) -> Response:
    """An answer of IAM's or STS's around XML that is already written."""
    text = (
        f'<{action}Response xmlns="{namespace}"><{action}Result>{content}</{action}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Response(status=200, headers=[("Content-Type", "text/xml")], body=_xml(text))


def ec2_set(name: str, items: Iterable[dict[str, str]]) -> str:
    """A list of flat structures, as EC2's protocol writes it."""
    rows = "".join(
        "<item>" + "".join(f"<{key}>{escape(value)}</{key}>" for key, value in item.items()) + "</item>"
        for item in items
    )
    return f"<{name}>{rows}</{name}>"


def _xml(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


def _credential_scope(authorization: str) -> tuple[str, str, str]:
    """(access key, region, service) of a signature of version 4; empty if there is none."""
    _, _, rest = authorization.partition("Credential=")
    parts = rest.split(",")[0].strip().split("/")
    return (parts[0], parts[2], parts[3]) if len(parts) >= 5 else ("", "", "")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
