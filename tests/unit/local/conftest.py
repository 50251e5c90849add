"""An embedded cloud for the tests of this folder, and what one does with it: launch, log in, wait."""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import paramiko
import pytest
from botocore.config import Config
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

_ASK = """import json, os, urllib.error, urllib.request
base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/latest/"
def ask(path, headers, method="GET"):
    request = urllib.request.Request(base + path, headers=headers, method=method)
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read().decode()
    except urllib.error.HTTPError as error:
        return str(error.code)
"""
"""How a program on an instance asks its metadata service; an error's answer is its number."""
IMAGE_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


@dataclass(frozen=True)
class Key:
    """An ed25519 key pair in OpenSSH's formats."""

    private: str
    public: str

    def for_paramiko(self) -> paramiko.PKey:
        return paramiko.Ed25519Key.from_private_key(io.StringIO(self.private))


def new_key() -> Key:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Key(private=private.decode(), public=public.decode())


def wait_for(condition: Callable[[], Any], *, within_s: float = 15.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


class _Pinned(paramiko.MissingHostKeyPolicy):
    """Accepts the one key that was given for the machine."""

    def __init__(self, public: str) -> None:
        self._public = public.split()[1]

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        if key.get_base64() != self._public:
            raise paramiko.SSHException("another host key than the one that was given")


@dataclass
class Machine:
    """An instance that was launched by a test, and the way in."""

    rig: Rig
    id: str
    address: str
    host_key: Key
    login_key: Key
    clients: list[paramiko.SSHClient] = field(default_factory=list)

    def connect(self, *, user: str = "ec2-user", timeout_s: float = 10.0) -> paramiko.SSHClient:
        """One attempt to log in."""
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_Pinned(self.host_key.public))
        try:
            client.connect(
                self.address,
                port=self.rig.cloud.ssh_port,
                username=user,
                pkey=self.login_key.for_paramiko(),
                timeout=timeout_s,
                banner_timeout=timeout_s,
                auth_timeout=timeout_s,
                allow_agent=False,
                look_for_keys=False,
            )
        except BaseException:
            client.close()
            raise
        transport = client.get_transport()
        assert transport is not None
        assert isinstance(transport.sock, socket.socket)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clients.append(client)
        return client

    def asks(self, script: str) -> str:
        """What a Python script prints there that may `ask(path, headers, method)` the metadata service."""
        encoded = base64.b64encode((_ASK + script).encode()).decode()
        return self.run(f"echo {encoded} | base64 -d | python3 -")

    def login(self) -> paramiko.SSHClient:
        """Log in as soon as sshd answers."""

        def attempt() -> paramiko.SSHClient | None:
            try:
                return self.connect()
            except (OSError, EOFError):
                return None

        client: paramiko.SSHClient = wait_for(attempt)
        return client

    def run(self, command: str, *, data: bytes = b"", check: bool = True) -> str:
        """What a command prints, over a connection of its own or the last one."""
        client = self.clients[-1] if self.clients else self.login()
        stdin, stdout, stderr = client.exec_command(command)
        stdin.write(data)
        stdin.channel.shutdown_write()
        output, errors = stdout.read().decode(), stderr.read().decode()
        status = stdout.channel.recv_exit_status()
        assert status == 0 or not check, f"{command}: {status}: {errors}{output}"
        return output + errors

    def is_silent(self) -> bool:
        """Whether a new connection opens and then hears nothing, as behind a filter."""
        with socket.create_connection((self.address, self.rig.cloud.ssh_port), timeout=0.3) as peer:
            try:
                return not peer.recv(1)
            except TimeoutError:
                return True

    def facts(self) -> dict[str, Any]:
        """What the cloud says of it."""
        return next(each for each in self.rig.cloud.instances() if each["id"] == self.id)

    def described(self) -> dict[str, Any]:
        """What EC2 says of it."""
        answer = self.rig.ec2.describe_instances(InstanceIds=[self.id])
        return dict(answer["Reservations"][0]["Instances"][0])

    def wait_until(self, state: str) -> None:
        wait_for(lambda: self.facts()["state"] == state)

    def close(self) -> None:
        for client in self.clients:
            client.close()


class Rig:
    """A cloud with its clients, and everything that a test launched on it."""

    def __init__(self, cloud: EmbeddedCloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder
        self.ec2: EC2Client = self.client("ec2")
        self.image = self.client("ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
        group = self.ec2.create_security_group(GroupName="open", Description="ssh from here")
        self.group_id = group["GroupId"]
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group_id, IpPermissions=[self.rule(cloud.ssh_port)]
        )
        self.machines: list[Machine] = []

    @staticmethod
    def rule(port: int) -> Any:
        """Opens a port to this computer."""
        return {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "IpRanges": [{"CidrIp": "127.0.0.1/32"}],
        }

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client that repeats nothing by itself."""
        env = self.cloud.env
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=env["AWS_REGION"],
            endpoint_url=self.cloud.endpoint_url,
            aws_access_key_id=options.pop("access_key", env["AWS_ACCESS_KEY_ID"]),
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
            **options,
        )

    def request(self, **changes: Any) -> dict[str, Any]:
        """A launch of one machine that EC2 accepts."""
        request: dict[str, Any] = {
            "ImageId": self.image,
            "InstanceType": "m5.large",
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": [self.group_id],
            "InstanceInitiatedShutdownBehavior": "terminate",
        }
        return {name: value for name, value in {**request, **changes}.items() if value is not None}

    def launch(self, config: dict[str, Any] | None = None, **changes: Any) -> Machine:
        """A machine whose host key is given; `config` completes its cloud-config."""
        host_key, login_key = new_key(), new_key()
        document = {
            "ssh_keys": {"ed25519_private": host_key.private, "ed25519_public": host_key.public},
            "ssh_authorized_keys": [login_key.public],
            **(config or {}),
        }
        changes.setdefault("UserData", f"#cloud-config\n{json.dumps(document)}")
        instance = self.ec2.run_instances(**self.request(**changes))["Instances"][0]
        machine = Machine(
            rig=self,
            id=instance["InstanceId"],
            address=instance["PrivateIpAddress"],
            host_key=host_key,
            login_key=login_key,
        )
        self.machines.append(machine)
        return machine

    def openssh(self, machine: Machine) -> list[str]:
        """Options for OpenSSH's programs."""
        identity = self.folder / f"{machine.id}.key"
        identity.touch(mode=0o600)
        identity.write_text(machine.login_key.private)
        known = self.folder / f"{machine.id}.known"
        port = self.cloud.ssh_port
        name = machine.address if port == 22 else f"[{machine.address}]:{port}"
        known.write_text(f"{name} {machine.host_key.public}\n")
        pairs = [f"IdentityFile={identity}", f"UserKnownHostsFile={known}", f"Port={port}"]
        pairs += ["StrictHostKeyChecking=yes", "BatchMode=yes", "User=ec2-user", "LogLevel=ERROR"]
        return ["-F", "none", *(word for pair in pairs for word in ("-o", pair))]

    def tidy(self) -> None:
        """End what a test launched, and forget what it broke."""
        self.cloud.faults.clear()
        for machine in self.machines:
            machine.close()
        if self.machines:
            self.ec2.terminate_instances(InstanceIds=[machine.id for machine in self.machines])
        self.machines.clear()


@pytest.fixture(scope="session")
def session_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with EmbeddedCloud(cache_dir=tmp_path_factory.mktemp("cache")) as cloud:
        yield Rig(cloud, tmp_path_factory.mktemp("rig"))


@pytest.fixture
def rig(session_rig: Rig) -> Iterator[Rig]:
    """The session's cloud, without faults and with no machine of this test afterwards."""
    yield session_rig
    session_rig.tidy()


@pytest.fixture(scope="module")
def machine(session_rig: Rig) -> Iterator[Machine]:
    """One machine for all tests of a module that only look."""
    launched = session_rig.launch()
    session_rig.machines.remove(launched)
    launched.login()
    yield launched
    launched.close()
    session_rig.ec2.terminate_instances(InstanceIds=[launched.id])


def processes_with(text: str) -> list[int]:
    """Ids of processes on this computer whose command line has a text."""
    lines = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    pairs = (line.split(None, 1) for line in lines)
    return [int(pair[0]) for pair in pairs if len(pair) == 2 and text in pair[1]]
