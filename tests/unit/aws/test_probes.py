"""What answers of AWS's to trials mean, and what can be found out without credentials."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.identity import Identity
from snakemake_executor_ec2.aws.policy import granting, needs
from snakemake_executor_ec2.aws.probes import GRANTED, Probes, Verdict, _judged
from snakemake_executor_ec2.aws.reach import answers_ssh, clock_offset_s
from tests.unit.aws.moto_server import CREDENTIALS, environment
from tests.unit.aws.test_check import answering

_NOBODY = "http://127.0.0.1:9"
ROLE = "arn:aws:iam::123456789012:role/lab"
DENIED = "You are not authorized. User: arn:aws:iam::1:user/a is not authorized to perform: "


def _error(code: str, message: str = "", status: int = 403) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "RunInstances")  # type: ignore[arg-type]


def test_what_a_refusal_names() -> None:
    """The action and resource, which may be others than were asked for; and a policy that denies it."""
    on = "arn:aws:iam::1:role/buckets"
    message = f"{DENIED}iam:PassRole on resource: {on} because no identity-based policy allows it"
    found = _judged(_error("UnauthorizedOperation", message), "ec2:RunInstances")
    assert (found.verdict, found.action, found.resource) == (Verdict.MISSING, "iam:PassRole", on)
    assert found.denied_by == ""

    message = f"{DENIED}ec2:RunInstances on resource: x with an explicit deny in a service control policy"
    found = _judged(_error("UnauthorizedOperation", message), "ec2:RunInstances")
    assert found.denied_by == "service control policy"

    found = _judged(_error("UnauthorizedOperation", "Encoded authorization failure message: x"), "ec2:A")
    assert (found.verdict, found.action, found.resource) == (Verdict.MISSING, "ec2:A", "")


def test_what_is_no_answer() -> None:
    """An error of another kind says nothing about permissions; the one of a DryRun says all."""
    assert _judged(_error("DryRunOperation", status=412), "ec2:A") == GRANTED
    found = _judged(_error("InvalidParameterValue", "bad"), "ec2:RunInstances")
    assert found.verdict is Verdict.UNKNOWN
    assert "bad" in found.error
    assert _judged(_error("RequestLimitExceeded", status=503), "ec2:A").error == ""


@pytest.mark.parametrize(
    ("decision", "verdict", "resource"),
    [("implicitDeny", Verdict.MISSING, "r"), ("allowed", Verdict.GRANTED, "")],
)
def test_the_simulators_older_answer(decision: str, verdict: Verdict, resource: str) -> None:
    """A result for each resource, without the list of them that newer ones have."""
    body = (
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults><member>"
        "<EvalActionName>ec2:A</EvalActionName><EvalResourceName>r</EvalResourceName>"
        f"<EvalDecision>{decision}</EvalDecision></member></EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )
    with answering(200, body) as url, environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}):
        probes = Probes(Clients(region="us-east-1", profile=None))
        found = probes.simulate(ROLE, "ec2:A", ["r"], {})
    assert (found.verdict, found.resource) == (verdict, resource)


def test_a_simulator_that_may_not_be_asked() -> None:
    """It says so by its own action, so that nobody asks again."""
    error = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    with answering(403, error) as url, environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}):
        probes = Probes(Clients(region="us-east-1", profile=None))
        found = probes.simulate(ROLE, "ec2:A", ["r"], {})
        assert probes.role_arn("lab") is None
    assert (found.verdict, found.action) == (Verdict.UNKNOWN, "iam:SimulatePrincipalPolicy")


def test_who_a_session_is() -> None:
    """Its role, not the name of the session."""
    session = Identity(arn="arn:aws-cn:sts::1:assumed-role/lab/ann@example", account="1")
    assert (session.kind, session.name, session.partition) == ("assumed-role", "lab", "aws-cn")


def test_a_policy_for_another_partition() -> None:
    """In China and GovCloud, ARNs begin otherwise."""
    text = str(granting(needs(), partition="aws-cn"))
    assert "arn:aws-cn:ec2:" in text
    assert "arn:aws:" not in text


@pytest.mark.parametrize("status", [200, 302, 403])
def test_the_clock_of_a_server(status: int) -> None:
    """Of any answer; one that leads elsewhere is not followed: another server has another clock."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", _NOBODY)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        offset_s = clock_offset_s(url, lambda: time.time() + 3600)
        thread.join()
    assert offset_s is not None
    assert abs(offset_s + 3600) < 3
    assert clock_offset_s(_NOBODY) is None


@pytest.mark.parametrize(
    ("greeting", "is_ssh"), [(b"SSH-2.0-x\r\n", True), (b"HTTP/1.1", False), (b"", False)]
)
def test_who_answers_as_ssh_does(greeting: bytes, is_ssh: bool) -> None:
    """Its first bytes; what a firewall's page says does not count, nor a connection that only opens."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        assert answers_ssh("127.0.0.1", server.getsockname()[1]) is is_ssh
        thread.join()
    assert answers_ssh("127.0.0.1", 9) is False
