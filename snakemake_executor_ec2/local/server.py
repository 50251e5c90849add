"""The cloud's HTTP side: moto's application, with corrections and faults around it."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from .control import PREFIX, CallLog, Control
from .fleet import Fleet
from .guard import Guard, Secrets
from .iam import Policies, Policy
from .wrap import authorize, groups, images, instances, prices, quotas, simulate
from .wrap.backend import LOCK, backend, secret_of
from .wrap.calls import ApiError, Call, Response, ec2_response, error_response, read_call
from .wrap.descriptions import Descriptions
from .wrap.images import Images
from .wrap.launches import Launches
from .wrap.roles import RoleSessions, policies_of

StartResponse = Callable[..., Any]

_CATALOGUE_ACTIONS = ("DescribeInstanceTypes", "DescribeInstanceTypeOfferings")


class CloudApp:
    """The WSGI application."""

    def __init__(
        self,
        fleet: Fleet,
        given: Secrets,
        facts: dict[str, Any],
        catalogue_dir: Path,
        policy: Policy | None = None,
    ) -> None:
        """`policy` is what callers may do; without one, everything."""
        self._given = given
        self._sessions = RoleSessions()
        self._guard = Guard(given, secret_of, self._sessions)
        self._fleet = fleet
        self._faults = fleet.faults
        self._log = CallLog()
        self._policy: Policy | None = policy
        self._control = Control(fleet, self._log, facts, self._set_policy)
        self._launches = Launches(fleet.faults)
        self._images = Images(fleet)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._descriptions = Descriptions()
        self._catalogue_dir = catalogue_dir
        groups.install()
        images.install()
        instances.install(fleet, self._sessions)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            self._guard.check_source(environ)
            if environ["PATH_INFO"].startswith(PREFIX):
                self._guard.check_token(environ)
                return _send(self._control.answer(environ), start_response)
            self._guard.check_signature(environ)
        except ApiError as error:
            return _refuse(environ, error, start_response)
        call = read_call(environ)
        policy = self._policy_for(call)
        entry = self._log.add(call)
        if not authorize.is_evaluated(call):
            if policy is not None:
                # Which action a request of S3's needs is not known here: a policy allows none of them.
                return _refuse(environ, authorize.refusal(call, f"{call.service}:*"), start_response)
            # S3 and the rest of moto are passed on as they are, streams included.
            return self._moto(environ, _without_cors(start_response))  # type: ignore[no-any-return]
        try:
            # Who one is comes before what one may do.
            self._check_login(call)
            if policy is not None:
                with LOCK:
                    authorize.check(policy, call)
            self._meet_faults(call)
            response = self._answer(call, environ)
        except ApiError as error:
            response = error_response(call, error)
            entry["error"] = error.code
        entry["status"] = response.status
        if self._faults.take("lost-reply", action=call.action) is not None:
            return _hang_up(environ, start_response)
        return _send(response, start_response)

    def _policy_for(self, call: Call) -> Policy | Policies | None:
        """What the caller may do; None: everything. An instance's role is always held to its own policies."""
        session = self._sessions.of_key(call.access_key)
        if session is None:
            return self._policy
        call.role_session = session.arn
        return policies_of(session.role)

    def _check_login(self, call: Call) -> None:
        if self._faults.take("expired", access_key=call.access_key) is not None:
            code = "RequestExpired" if call.service == "ec2" else "ExpiredToken"
            raise ApiError(code, "The security token included in the request is expired", status=403)

    def _meet_faults(self, call: Call) -> None:
        if self._faults.take("throttle", action=call.action) is not None:
            code = "ThrottlingException" if call.is_json else "RequestLimitExceeded"
            raise ApiError(code, "Request limit exceeded.", status=400 if call.is_json else 503)
        if self._faults.take("deny", action=call.action, access_key=call.access_key) is not None:
            raise authorize.refusal(call, f"{call.service}:{call.action}")

    def _set_policy(self, text: str | None) -> None:
        self._policy = None if text is None else Policy.parse(text)

    def _answer(self, call: Call, environ: dict[str, Any]) -> Response:
        match call.service, call.action:
            case "iam", "SimulatePrincipalPolicy":
                return simulate.principal_policy(self._policy, call)
            case "sts", "GetCallerIdentity" if call.role_session or call.access_key == self._given.access_key:
                return authorize.caller_identity(call)
            case "ec2", action if call.flag("DryRun") and action != "RunInstances":
                # moto asks for it in some actions only.
                raise ApiError(
                    "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412
                )
            case "pricing", "GetProducts":
                return prices.get_products(call)
            case "servicequotas", "GetServiceQuota":
                return quotas.get_service_quota(call, self._faults)
            case "ec2", "DescribeSpotPriceHistory":
                return prices.describe_spot_price_history(call)
            case "ec2", "GetConsoleOutput":
                return self._console_output(call)
            case "ec2", "RunInstances":
                with LOCK:
                    return self._launches.run_instances(call, lambda call: self._ask_moto(call, environ))
            case "ec2", "CreateImage":
                with LOCK:
                    return self._images.create(call, lambda call: self._ask_moto(call, environ))
            case "ec2", "DeleteSnapshot":
                with LOCK:
                    return self._images.delete_snapshot(call, lambda call: self._ask_moto(call, environ))
            case "ec2", "DescribeInstances":
                with LOCK:
                    return self._descriptions.describe(call, lambda call: self._ask_moto(call, environ))
            case "ec2", action if action in _CATALOGUE_ACTIONS:
                return self._catalogue_answer(call, environ)
        with LOCK:
            response = self._ask_moto(call, environ)
            if call.service == "ec2":
                self._descriptions.take_note_of(call)
            return response

    def _catalogue_answer(self, call: Call, environ: dict[str, Any]) -> Response:
        """What never changes is made once for this computer: the whole catalogue takes moto seconds."""
        question = json.dumps([version("moto"), call.region, call.params], sort_keys=True)
        file = self._catalogue_dir / f"{sha256(question.encode()).hexdigest()}.xml"
        with suppress(FileNotFoundError):
            return Response(
                status=HTTPStatus.OK, headers=[("Content-Type", "text/xml")], body=file.read_bytes()
            )
        with LOCK:
            response = self._ask_moto(call, environ)
        if response.status == HTTPStatus.OK:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{uuid4()}")
            partial.write_bytes(response.body)
            partial.replace(file)
        return response

    def _ask_moto(self, call: Call, environ: dict[str, Any]) -> Response:
        if not call.is_json and environ["REQUEST_METHOD"] == "POST":
            call.put_form(environ)
        status, headers, chunks = 500, [], []

        def start_response(line: str, given: list[tuple[str, str]], _error: object = None) -> None:
            nonlocal status, headers
            status, headers = int(line.split()[0]), given

        for chunk in self._moto(environ, start_response):
            chunks.append(chunk)
        kept = [
            (name, value) for name, value in _not_for_browsers(headers) if name.lower() != "content-length"
        ]
        return Response(status=status, headers=kept, body=b"".join(chunks))

    def _console_output(self, call: Call) -> Response:
        instance_id = str(call.params.get("InstanceId", ""))
        try:
            text = self._fleet.get(instance_id).console_output()
        except KeyError as error:
            message = f"The instance ID '{instance_id}' does not exist"
            raise ApiError("InvalidInstanceID.NotFound", message) from error
        output = base64.b64encode(text.encode(errors="surrogateescape")).decode()
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        content = (
            f"<instanceId>{instance_id}</instanceId><timestamp>{now}</timestamp><output>{output}</output>"
        )
        return ec2_response("GetConsoleOutput", content)


class _Handler(WSGIRequestHandler):
    """Speaks HTTP/1.1, so that clients keep their connections, and keeps quiet."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: the call log has it all."""


def make_http_server(app: CloudApp) -> BaseWSGIServer:
    """A threaded server on a free port of 127.0.0.1, listening already."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    server.daemon_threads = True  # type: ignore[attr-defined]
    return server


def warm_up() -> None:
    """Build what the first call would have to wait for."""
    with LOCK:
        backend("us-east-1")


def _send(response: Response, start_response: StartResponse) -> list[bytes]:
    line = f"{response.status} {HTTPStatus(response.status).phrase}"
    start_response(line, [*response.headers, ("Content-Length", str(len(response.body)))])
    return [response.body]


def _refuse(environ: dict[str, Any], error: ApiError, start_response: StartResponse) -> list[bytes]:
    """Say no to somebody of whom nothing is to be read: the connection ends."""
    response = error_response(_signed_call(environ), error)
    return _send(replace(response, headers=[*response.headers, ("Connection", "close")]), start_response)


def _signed_call(environ: dict[str, Any]) -> Call:
    """A call as far as its head tells, so that its service's words can be found."""
    return read_call({**environ, "wsgi.input": BytesIO(), "CONTENT_LENGTH": "0"})


def _without_cors(start_response: StartResponse) -> StartResponse:
    def start(line: str, headers: list[tuple[str, str]], error: object = None) -> Any:
        return start_response(line, _not_for_browsers(headers), error)

    return start


def _not_for_browsers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """moto's server lets every web page read its answers."""
    return [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]


def _hang_up(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Close the connection instead of answering: the client can't know whether it was done."""
    connection: socket.socket = environ["werkzeug.socket"]
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    start_response("500 lost", [("Content-Length", "0"), ("Connection", "close")])
    return []
