"""Who may talk to the cloud: whoever has its secrets, and no web page.

Its port is open to every user of this computer, and to each page in a browser on it. So a call has to be
signed with the secret key that the cloud prints (signature version 4, as for AWS), or with one that was made
on it with IAM; the control interface wants a token. A browser gives itself away by `Origin`, and a name that
was bent towards this computer by `Host`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from .wrap.calls import ApiError

if TYPE_CHECKING:
    from .wrap.roles import RoleSessions

_ALGORITHM = "AWS4-HMAC-SHA256"
_CREDENTIAL = re.compile(r"([^/\s,]+)/(\d{8})/([^/\s,]+)/([^/\s,]+)/aws4_request")
_SKEW_S = 15 * 60
_LARGEST_BODY = 16 << 20
_HOSTS = ("127.0.0.1", "localhost")
_OF_BROWSERS = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_REFERER")


@dataclass(frozen=True)
class Secrets:
    """What a cloud gives to those who may use it; of its own for each."""

    access_key: str = field(default_factory=lambda: f"EMBEDDED{secrets.token_hex(6).upper()}")
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    control_token: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)


class Guard:
    """Checks requests before anything of them is looked at. Raises ApiError for those that may not be."""

    def __init__(
        self, given: Secrets, other_secret: Callable[[str], str | None], sessions: RoleSessions
    ) -> None:
        """`other_secret`: the secret key of an access key that is not the cloud's own, if there is one;
        `sessions`: those of instances."""
        self._given = given
        self._other_secret = other_secret
        self._sessions = sessions

    def check_source(self, environ: Mapping[str, Any]) -> None:
        """Refuse what a browser sends."""
        host = str(environ.get("HTTP_HOST", ""))
        name, _, port = host.rpartition(":")
        if name not in _HOSTS or port != str(environ["SERVER_PORT"]):
            raise ApiError("AccessDenied", "no such host here", status=403)
        if any(environ.get(name) for name in _OF_BROWSERS) or environ["REQUEST_METHOD"] == "OPTIONS":
            raise ApiError("AccessDenied", "not for web pages", status=403)

    def check_token(self, environ: Mapping[str, Any]) -> None:
        """Refuse a control request of somebody who has not the token."""
        given = str(environ.get("HTTP_AUTHORIZATION", "")).removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._given.control_token.encode()):
            raise ApiError("AccessDenied", "the control interface needs the cloud's token", status=403)

    def check_signature(self, environ: dict[str, Any]) -> None:
        """Refuse a call that is not signed with a secret key of this cloud's."""
        authorization = str(environ.get("HTTP_AUTHORIZATION", ""))
        fields = dict(re.findall(r"(\w+)=([^,\s]+)", authorization))
        scope = _CREDENTIAL.fullmatch(fields.get("Credential", ""))
        if scope is None or not authorization.startswith(_ALGORITHM):
            raise ApiError(
                "MissingAuthenticationToken", "Request is missing Authentication Token", status=403
            )
        access_key, day, region, service = scope.groups()
        time = str(environ.get("HTTP_X_AMZ_DATE", ""))
        if not time.startswith(day) or not _is_recent(time):
            raise ApiError("RequestExpired", "Request has expired", status=400)
        signed = fields.get("SignedHeaders", "").split(";")
        secret = (
            self._secret_of_session(environ, access_key, signed, service)
            or self._other_secret(access_key)
            or self._given.secret_key
        )
        canonical = _canonical(environ, signed, service)
        text = "\n".join(
            (_ALGORITHM, time, f"{day}/{region}/{service}/aws4_request", _sha256(canonical.encode()))
        )
        key = f"AWS4{secret}".encode()
        for part in (day, region, service, "aws4_request", text):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(key.hex(), fields.get("Signature", "")):
            message = "The request signature we calculated does not match the signature you provided."
            code = "SignatureDoesNotMatch" if service != "ec2" else "AuthFailure"
            raise ApiError(code, message, status=403)

    def _secret_of_session(
        self, environ: Mapping[str, Any], access_key: str, signed: list[str], service: str
    ) -> str | None:
        """The secret key of an instance's role. Refuses one without its session token, or that has ended."""
        session = self._sessions.of_key(access_key)
        if session is None:
            return None
        token = str(environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
        is_signed = "x-amz-security-token" in signed
        if not is_signed or not hmac.compare_digest(token.encode(), session.token.encode()):
            code = "AuthFailure" if service == "ec2" else "InvalidClientTokenId"
            raise ApiError(code, "The security token included in the request is invalid", status=403)
        if self._sessions.has_ended(session):
            code = "RequestExpired" if service == "ec2" else "ExpiredToken"
            raise ApiError(code, "The security token included in the request is expired", status=403)
        return session.secret_key


def _is_recent(time: str) -> bool:
    try:
        at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs((datetime.now(UTC) - at).total_seconds()) <= _SKEW_S


def _canonical(environ: dict[str, Any], signed: list[str], service: str) -> str:
    """The request as its signature was made of it. `host` has to be among what was signed."""
    if "host" not in signed:
        raise ApiError("IncompleteSignature", "'Host' must be a 'SignedHeader'", status=403)
    path = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]).partition("?")[0]
    if service != "s3":
        path = quote(path, safe="/-_.~")
    query = parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    headers = "".join(f"{name}:{' '.join(_header(environ, name).split())}\n" for name in signed)
    return "\n".join(
        (
            str(environ["REQUEST_METHOD"]),
            path or "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(signed),
            _body_hash(environ, service),
        )
    )


def _header(environ: Mapping[str, Any], name: str) -> str:
    variable = name.upper().replace("-", "_")
    if variable in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return str(environ.get(variable, ""))
    return str(environ.get(f"HTTP_{variable}", ""))


def _body_hash(environ: dict[str, Any], service: str) -> str:
    """Of the body itself, but for S3, whose files may be large and whose clients say what they sign."""
    told = str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", ""))
    if service == "s3" and told:
        return told
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > _LARGEST_BODY:
        raise ApiError("RequestEntityTooLarge", "the request is too large", status=413)
    body = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = BytesIO(body)
    return _sha256(body)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
