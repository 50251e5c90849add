"""The cloud is its user's alone: neither other users of this computer nor web pages get anything from it."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from snakemake_executor_ec2.local import serve
from snakemake_executor_ec2.local.client import ControlError, Faults
from snakemake_executor_ec2.local.cloud import EmbeddedCloud

from .conftest import Machine, Rig

CONTROL = [
    ("GET", "state"), ("GET", "calls"), ("DELETE", "calls"), ("GET", "faults"), ("DELETE", "faults"),
    ("POST", "faults"), ("DELETE", "faults/1"), ("GET", "checkip"), ("PUT", "policy"),
    *(("POST", f"instances/{{id}}/{verb}") for verb in
      ("shell", "crash", "cut", "half-open", "refuse", "impostor", "spot-notice", "spot-reclaim")),
]  # fmt: skip
API = [
    ("ec2", "describe_instances", {}),
    ("ec2", "run_instances", {"MinCount": 1, "MaxCount": 1}),
    ("ec2", "terminate_instances", {"InstanceIds": ["i-0123456789abcdef0"]}),
    ("ec2", "describe_instance_types", {}),
    ("ec2", "get_console_output", {"InstanceId": "i-0123456789abcdef0"}),
    ("pricing", "get_products", {"ServiceCode": "AmazonEC2"}),
    ("service-quotas", "get_service_quota", {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}),
    ("ssm", "get_parameter", {"Name": "x"}),
    ("sts", "get_caller_identity", {}),
    ("s3", "list_buckets", {}),
    ("iam", "list_users", {}),
]
_NOBODY = 65534


def _ask(
    cloud: EmbeddedCloud, method: str, path: str, headers: dict[str, str], body: str = "{}"
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(cloud.endpoint_url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def _token(cloud: EmbeddedCloud) -> dict[str, str]:
    return {"Authorization": f"Bearer {cloud.env['SNAKEMAKE_EC2_CONTROL_TOKEN']}"}


def _signed(cloud: EmbeddedCloud, body: str) -> dict[str, str]:
    """The headers of a call of EC2 that is in order."""
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    request = AWSRequest("POST", f"{cloud.endpoint_url}/", {"Content-Type": kind}, body)
    keys = Credentials(cloud.env["AWS_ACCESS_KEY_ID"], cloud.env["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "ec2", "us-east-1").add_auth(request)
    return dict(request.headers.items())


VPCS = "Action=DescribeVpcs&Version=2016-11-15"


@pytest.mark.parametrize(("method", "path"), CONTROL)
@pytest.mark.parametrize("authorization", [None, "Bearer ", "Bearer guessed", "Basic Og=="])
def test_no_control_without_the_token(
    machine: Machine, method: str, path: str, authorization: str | None
) -> None:
    """Each verb is refused, and nothing has happened."""
    cloud = machine.rig.cloud
    headers = {} if authorization is None else {"Authorization": authorization}
    body = json.dumps({"command": "touch /tmp/was-here", "kind": "throttle"})
    status, _, _ = _ask(cloud, method, f"/_embedded/{path.format(id=machine.id)}", headers, body)
    assert status == 403
    assert machine.facts()["state"] == "running"
    assert not machine.facts()["crashed"]
    assert cloud.faults.list() == []


def test_nothing_was_run_on_the_machine(machine: Machine) -> None:
    """After all these attempts, which are the tests before."""
    assert machine.rig.cloud.faults.shell(machine.id, "test ! -e /tmp/was-here")[0] == 0


@pytest.mark.parametrize(("service", "call", "arguments"), API)
def test_no_call_without_the_secret(
    session_rig: Rig, service: str, call: str, arguments: dict[str, object]
) -> None:
    """Whoever knows the access key, and guesses the secret, is refused by each service."""
    client = boto3.client(  # type: ignore[call-overload]
        service,
        region_name="us-east-1",
        endpoint_url=session_rig.cloud.endpoint_url,
        aws_access_key_id=session_rig.cloud.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="guessed",  # noqa: S106
        config=Config(retries={"total_max_attempts": 1}),
    )
    before = len(session_rig.cloud.calls())
    with pytest.raises(ClientError, match="signature we calculated does not match"):
        getattr(client, call)(**arguments)
    assert len(session_rig.cloud.calls()) == before


@pytest.mark.parametrize(
    "path", ["/", "/moto-api/reset", "/moto-api/data.json", "/bucket/key", "/?Action=DescribeVpcs"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_is_answered_without_a_signature(session_rig: Rig, method: str, path: str) -> None:
    """Not by moto's own pages either."""
    assert _ask(session_rig.cloud, method, path, {}, VPCS)[0] == 403


def test_a_signature_is_for_one_request(session_rig: Rig) -> None:
    """Another body, path, method, or day under the same signature is refused; the request itself is not."""
    cloud = session_rig.cloud
    headers = _signed(cloud, VPCS)
    assert _ask(cloud, "POST", "/", headers, VPCS)[0] == 200
    assert _ask(cloud, "POST", "/", headers, VPCS.replace("Vpcs", "Subnets"))[0] == 403
    assert _ask(cloud, "POST", "/other", headers, VPCS)[0] == 403
    assert _ask(cloud, "PUT", "/", headers, VPCS)[0] == 403
    assert _ask(cloud, "POST", "/?Action=RunInstances", headers, VPCS)[0] == 403
    old = {**headers, "X-Amz-Date": "20200101T000000Z"}
    assert _ask(cloud, "POST", "/", old, VPCS)[0] in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": "localhost:1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Referer": "https://evil.example/"},
    ],
)
def test_no_web_page_is_answered(session_rig: Rig, headers: dict[str, str]) -> None:
    """Whatever a browser sends with a request is refused, even with the token, and no page may read why."""
    cloud = session_rig.cloud
    port = str(urlsplit(cloud.endpoint_url).port)
    crafted = {name: value.format(port=port) for name, value in headers.items()}
    for method, path, secret in (
        ("GET", "/_embedded/state", _token(cloud)),
        ("POST", "/_embedded/faults", _token(cloud)),
        ("POST", "/", _signed(cloud, VPCS)),
        ("OPTIONS", "/", _signed(cloud, VPCS)),
    ):
        secret = {name: value for name, value in secret.items() if name.lower() != "host"}
        status, said, _ = _ask(cloud, method, path, {**secret, **crafted}, VPCS)
        assert status == 403
        assert not [name for name in said if name.startswith("access-control-")]
    assert cloud.faults.list() == []


def test_no_answer_may_be_read_by_a_page(session_rig: Rig) -> None:
    """moto's server by itself allows it to every page."""
    cloud = session_rig.cloud
    _, said, _ = _ask(cloud, "POST", "/", _signed(cloud, VPCS), VPCS)
    assert not [name for name in said if name.startswith("access-control-")]


def test_each_cloud_has_secrets_of_its_own(session_rig: Rig, tmp_path: Path) -> None:
    """One cloud's open no other."""
    with EmbeddedCloud(cache_dir=tmp_path / "cache") as other:
        secret = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SNAKEMAKE_EC2_CONTROL_TOKEN")
        assert not {other.env[name] for name in secret} & set(session_rig.cloud.env.values())
        with pytest.raises(ControlError, match="403"):
            Faults(other.endpoint_url, session_rig.cloud.env[secret[2]]).list()


def test_metadata_is_the_machines_own(session_rig: Rig, machine: Machine) -> None:
    """Who finds the address of a machine's metadata service, another machine for instance, gets nothing
    of it: user-data holds a host key."""
    endpoint = machine.run("echo $AWS_EC2_METADATA_SERVICE_ENDPOINT").strip()
    bare = f"http://{urlsplit(endpoint).netloc}"
    other = session_rig.launch()
    ask = (
        "curl -s -o /dev/null -w '%{{http_code}} ' -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "
        "{}/latest/api/token"
    )
    assert other.run(ask.format(bare)).split() == ["404"]
    assert machine.run(ask.format(endpoint)).split() == ["200"]
    others = other.run("echo $AWS_EC2_METADATA_SERVICE_ENDPOINT").strip()
    mixed = bare + urlsplit(others).path
    assert other.run(ask.format(mixed)).split() == ["404"]
    session_rig.tidy()


@pytest.fixture
def shared_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory as all users of a computer share it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        monkeypatch.setenv("TMPDIR", name)
        yield folder


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = (folder, *folder.rglob("*"))
    return {str(path): (path.lstat().st_mode, path.lstat().st_uid) for path in found}


def test_a_cloud_that_starts_leaves_its_neighbours_alone(shared_folder: Path, tmp_path: Path) -> None:
    """Only folders of clouds of this user's that were killed on this computer go: not a running cloud's, one
    that is being made, a link's target, another computer's, nor, if this is root, another user's."""
    prefix = "snakemake-ec2-cloud-"
    precious = tmp_path / "precious"
    (precious / "closed").mkdir(parents=True)
    (precious / "closed").chmod(0o500)
    (precious / "lock").touch()
    (shared_folder / f"{prefix}link").symlink_to(precious)
    (shared_folder / f"{prefix}begun").mkdir()
    (shared_folder / f"{prefix}begun/lock.new").touch()
    (shared_folder / f"{prefix}elsewhere").mkdir()
    (shared_folder / f"{prefix}elsewhere/lock").write_text("another computer")
    (shared_folder / f"{prefix}file").touch()
    if os.geteuid() == 0:
        theirs = shared_folder / f"{prefix}theirs"
        theirs.mkdir()
        (theirs / "lock").write_text(os.uname().nodename)
        for path in (theirs, theirs / "lock"):
            os.chown(path, _NOBODY, _NOBODY)
    dead = shared_folder / f"{prefix}dead"
    dead.mkdir()
    (dead / "lock").write_text(os.uname().nodename)
    with EmbeddedCloud(cache_dir=tmp_path / "cache") as running:
        assert not dead.exists()
        before = _files(shared_folder) | _files(precious)
        with EmbeddedCloud(cache_dir=tmp_path / "cache"):
            now = _files(shared_folder) | _files(precious)
            assert before == {name: now.get(name) for name in before}
        assert running.state()["instances"] == []
    (precious / "closed").chmod(0o700)


def test_folders_are_closed_to_others(tmp_path: Path) -> None:
    """State, cache and the caches of answers: nobody else may look in, however the mask is set."""
    old = os.umask(0)
    try:
        with EmbeddedCloud(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache") as cloud:
            for folder in (tmp_path / "state", tmp_path / "cache"):
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert Path(cloud.env["SNAKEMAKE_EC2_CACHE"]).is_relative_to(tmp_path / "state")
    finally:
        os.umask(old)


def test_a_cache_of_another_user_is_not_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Machines run what is in it: another folder is taken, and that is told."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder another user's")
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, _NOBODY, _NOBODY)
    with EmbeddedCloud(cache_dir=cache):
        pass
    assert "another user's" in capfd.readouterr().err
    assert not list(cache.iterdir())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_of_this_computer_gets_nothing(shared_folder: Path, tmp_path: Path) -> None:
    """Not what is in the cloud's folders, by their names either; not the secrets, from its processes."""
    with EmbeddedCloud(cache_dir=shared_folder / "cache") as cloud:
        rig = Rig(cloud, tmp_path)
        launched = rig.launch()
        launched.run("echo secret > file")
        state = next(shared_folder.glob("snakemake-ec2-cloud-*"))
        ids = [cloud.pid, launched.facts()["pid"]]
        attempts = [
            ["ls", str(state)],
            ["cat", f"{state}/hosts/{launched.id}/init.log"],
            ["ls", str(shared_folder / "cache")],
            ["touch", f"{shared_folder}/cache/wheels/evil.whl"],
            *(["cat", f"/proc/{pid}/environ"] for pid in ids),
        ]
        for command in attempts:
            done = subprocess.run(
                command,
                user=_NOBODY,
                group=_NOBODY,
                extra_groups=[],
                capture_output=True,
                check=False,
                cwd="/",
            )
            assert done.returncode, command
            assert not done.stdout
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
        for name in ("AWS_SECRET_ACCESS_KEY", "SNAKEMAKE_EC2_CONTROL_TOKEN"):
            assert cloud.env[name] not in listed
        launched.close()


def test_a_folder_that_is_held_is_locked_from_its_first_moment(tmp_path: Path) -> None:
    """There is no moment at which its lock is there, and free."""
    folder = tmp_path / "held"
    folder.mkdir()
    with serve._held(folder):
        with (folder / "lock").open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert (folder / "lock").read_text() == os.uname().nodename
    assert not folder.exists()
