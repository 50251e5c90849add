"""What EC2 said is kept, asked for again in time, and better than nothing where EC2 is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snakemake_executor_ec2.aws.cache import DiskCache
from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.region import Answers, Region
from snakemake_executor_ec2.errors import Ec2ExecutorError, ThrottledError
from snakemake_executor_ec2.model import Arch
from tests.fakes.clock import FakeClock
from tests.unit.aws.scripted import ScriptedClients, client_error

ARM_NAME = "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) 2026"


def image(ami: str, name: str, created: str) -> dict[str, object]:
    return {
        "ImageId": ami,
        "Name": name,
        "CreationDate": created,
        "Architecture": "arm64",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 75}}],
    }


def region(clients: ScriptedClients, warn: Callable[[str], None]) -> Region:
    clock = FakeClock()
    cache = DiskCache(None, clock)
    return Region(clients.as_clients, subnets=(), allowed_types=(), cache=cache, clock=clock, warn=warn)


def test_an_old_answer_is_better_than_none() -> None:
    """Where AWS does not answer any more what it once did, the last answer stands; asked again later."""
    clock, said = FakeClock(), Answers()

    def silent() -> int:
        raise ThrottledError("no answer")

    def ask(question: Callable[[], int]) -> int:
        return said.once("price", question, max_age_s=300, clock=clock)

    with pytest.raises(Ec2ExecutorError):
        ask(silent)
    assert ask(lambda: 1) == 1
    clock.advance(301)
    assert ask(silent) == 1
    assert ask(lambda: 2) == 2
    assert ask(lambda: 3) == 2


def test_the_newest_image_with_gpu_drivers() -> None:
    """Of AWS's own images with NVIDIA's drivers the newest one is taken, with its size."""
    clients = ScriptedClients()
    rows = [image("ami-old", ARM_NAME, "2026-01-01"), image("ami-new", ARM_NAME, "2026-10-01")]
    clients.ec2.answer("describe_images", {"Images": rows})
    found = region(clients, pytest.fail).image(None, Arch.ARM64, gpu=True)
    assert (found.ami, found.root_gib) == ("ami-new", 75)
    (asked,) = clients.ec2.called("describe_images")
    assert asked["Owners"] == ["amazon"]


def test_without_an_image_with_gpu_drivers() -> None:
    """Amazon Linux it is, and the user is told once what it lacks."""
    clients, said = ScriptedClients(), list[str]()
    clients.ec2.answer("get_parameter", client_error("ParameterNotFound"))
    plain = image("ami-plain", "al2023-ami-2023.1", "2026-01-01")
    clients.ec2.answer("describe_images", {"Images": []}, {"Images": [plain]})
    asked = region(clients, said.append)
    assert asked.image(None, Arch.ARM64, gpu=True).ami == "ami-plain"
    assert asked.image(None, Arch.ARM64, gpu=True).ami == "ami-plain"
    assert [text for text in said if "ec2_ami" in text] == said != []


def test_a_new_login_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of a file, which boto3 reads once, are read anew."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    clients = Clients(region="us-east-1", profile=None)

    def key() -> str:
        found = clients._session.get_credentials()
        assert found is not None
        return str(found.access_key)

    file.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = made-up\n")
    assert key() == "OLD"
    file.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = made-up\n")
    clients.log_in_again()
    assert key() == "NEW"
