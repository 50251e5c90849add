"""What a user reads who has no credentials, wrong ones, or no way to EC2."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.errors import ConfigurationError, CredentialsExpired, Ec2ExecutorError
from tests.fakes.clock import FakeClock
from tests.unit.aws.moto_server import CREDENTIALS, environment, moto_server

_NOBODY = "http://127.0.0.1:9"
"""A port on which nothing listens."""


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The URL of an API that answers everything with the same text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def refusing(code: str, message: str = "EC2 said so.") -> str:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<Response><Errors>{error}</Errors></Response>"


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path) -> Iterator[None]:
    """No AWS configuration of this computer's counts, and no metadata service is asked."""
    config = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": _NOBODY,
    }
    with environment(config), unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        yield


@contextmanager
def unset(*names: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.delenv(name, raising=False)
        yield


def cloud(*, region: str | None = "us-east-1", profile: str | None = None) -> Ec2Cloud:
    return Ec2Cloud(run_id="r1", clock=FakeClock(), warn=pytest.fail, region=region, profile=profile)


def refusal(made: Ec2Cloud) -> str:
    """The one sentence of a failed check."""
    with pytest.raises(Ec2ExecutorError) as caught:
        made.check()
    assert isinstance(caught.value, ConfigurationError | CredentialsExpired)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_credentials() -> None:
    """Without credentials the user is told how to get some, before anything is asked."""
    said = refusal(cloud())
    assert said.startswith("no AWS credentials were found")
    assert "aws configure" in said
    assert "--ec2-profile" in said


def test_incomplete_credentials() -> None:
    """A key id without its secret is told apart."""
    with environment({"AWS_ACCESS_KEY_ID": "AKIAFAKE"}):
        assert "incomplete" in refusal(cloud())


def test_unknown_profile(tmp_path: Path) -> None:
    """A profile that does not exist is named, with those that do."""
    (tmp_path / "config").write_text("[profile work]\nregion = us-east-1\n")
    said = refusal(cloud(profile="wrok"))
    assert "'wrok'" in said
    assert "work" in said
    assert "--ec2-profile" in said


def test_expired_login(tmp_path: Path) -> None:
    """A single-sign-on login that is over needs `aws sso login`."""
    (tmp_path / "config").write_text(
        "[profile lab]\nsso_start_url = https://lab.example\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = researcher\nregion = us-east-1\n"
    )
    assert "aws sso login" in refusal(cloud(profile="lab"))


def test_a_role_with_an_mfa_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code is asked for at the start, where there is a terminal, and never by a thread later on; a
    session that AWS's own program has begun is taken over."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config").write_text(
        "[profile lab]\nrole_arn = arn:aws:iam::123456789012:role/lab\nsource_profile = me\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\nregion = us-east-1\n"
    )
    (tmp_path / "credentials").write_text("[me]\naws_access_key_id = A\naws_secret_access_key = B\n")
    asked: list[str] = []

    def no_terminal(prompt: str) -> str:
        asked.append(prompt)
        raise EOFError

    monkeypatch.setattr("getpass.getpass", no_terminal)
    made = cloud(profile="lab")
    assert "there is no terminal to ask for it" in refusal(made)
    assert len(asked) == 1
    made._clients.log_in_again()
    assert "aws sts get-caller-identity" in refusal(made)
    assert len(asked) == 1

    providers = made._clients._session._session.get_component("credential_provider")
    cache = tmp_path / ".aws/cli/cache"
    providers.get_provider("assume-role").cache["key"] = {"Credentials": {}}
    assert [path.name for path in cache.iterdir()] == ["key.json"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AuthFailure", "AWS does not accept the credentials (AuthFailure): run `aws configure`"),
        ("SignatureDoesNotMatch", "AWS does not accept the credentials"),
        ("RequestExpired", "the AWS credentials have expired"),
    ],
)
def test_credentials_that_aws_refuses(code: str, said: str) -> None:
    """Invalid and expired credentials are told apart, and both say what to do."""
    with answering(401, refusing(code)) as url, environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}):
        assert said in refusal(cloud())


def test_a_permission_that_check_does_not_need() -> None:
    """Credentials without ec2:DescribeRegions are valid nevertheless."""
    with (
        answering(403, refusing("UnauthorizedOperation")) as url,
        environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}),
    ):
        cloud().check()


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, refusing("InvalidClientTokenId")), (404, "no such API"), (200, "<html>"), (200, "<Regions/>")],
)
def test_an_api_without_accounts(status: int, body: str) -> None:
    """Where nothing tells whose credentials they are, that is not known, and nothing else comes of it."""
    with answering(status, body) as url, environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}):
        assert cloud().account is None


def test_nobody_tells_the_account() -> None:
    """Where nothing answers, that is not known either."""
    with environment(CREDENTIALS):
        assert cloud().account is None


def test_the_account() -> None:
    """Its number is STS's."""
    with moto_server():
        assert cloud().account == "123456789012"


def test_no_region() -> None:
    """Where nothing names a region, the option is named."""
    with environment(CREDENTIALS):
        assert "--ec2-region" in refusal(cloud(region=None))


@pytest.mark.parametrize("variable", ["AWS_DEFAULT_REGION", "AWS_REGION"])
def test_region_of_the_environment(variable: str) -> None:
    """boto3's variable counts, and the one of the other SDKs."""
    with environment({**CREDENTIALS, variable: "eu-central-1"}):
        assert cloud(region=None).region == "eu-central-1"


def test_region_of_the_profile(tmp_path: Path) -> None:
    """A profile's region counts where no option says otherwise."""
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    assert cloud(region=None, profile="work").region == "eu-west-1"
    assert cloud(region="us-east-2", profile="work").region == "us-east-2"


def regions(**status: str) -> str:
    items = "".join(
        f"<item><regionName>{name.replace('_', '-')}</regionName><optInStatus>{of}</optInStatus></item>"
        for name, of in status.items()
    )
    return f"<DescribeRegionsResponse><regionInfo>{items}</regionInfo></DescribeRegionsResponse>"


def test_unknown_region_where_the_api_answers() -> None:
    """A mistyped region is named, with the one that was probably meant."""
    with (
        answering(200, regions(us_east_1="opt-in-not-required")) as url,
        environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}),
    ):
        said = refusal(cloud(region="us-est-1"))
    assert "'us-est-1'" in said
    assert "did you mean us-east-1?" in said


def test_unknown_region_where_nothing_answers() -> None:
    """A region that does not exist has no endpoint: that is told as such, not as a network problem."""
    with environment(CREDENTIALS):
        said = refusal(cloud(region="us-est-1"))
    assert "no region 'us-est-1'" in said


def test_region_that_is_not_enabled() -> None:
    """A region that the account has not opted in to needs an administrator."""
    with (
        answering(200, regions(af_south_1="not-opted-in")) as url,
        environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}),
    ):
        assert "has not enabled the region af-south-1" in refusal(cloud(region="af-south-1"))


def test_unreachable_endpoint() -> None:
    """Where EC2 does not answer, address and setting are named."""
    with environment(CREDENTIALS):
        said = refusal(cloud())
    assert _NOBODY in said
    assert "AWS_ENDPOINT_URL" in said


def test_making_a_cloud_asks_nobody() -> None:
    """The constructor does no I/O, and closing a cloud that launched nothing neither."""
    with ExitStack() as stack:
        stack.enter_context(environment({"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}))
        made = cloud(region=None, profile="no-such-profile")
        made.close()
        made.close()
