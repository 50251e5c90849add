"""What the kit itself asks of AWS, beside the product: who we are, which machines there are, what is left."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

TAG = "live-kit"
"""Every machine of the kit and its disks carry it; the value is the kit's name, a slash, and the test's."""
_RUN_TAG = "snakemake-ec2:run"
_ENDED_AT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A machine as EC2 describes it."""

    id: str
    state: str
    launched_at: float
    ended_at: float | None
    """When it was asked to end; None if EC2 does not say so."""
    reason: str

    @property
    def is_alive(self) -> bool:
        return self.state in ("pending", "running", "stopping", "stopped")


class Account:
    """An AWS account in one region."""

    def __init__(self, region: str | None, profile: str | None) -> None:
        self._session = boto3.Session(region_name=region, profile_name=profile)
        self.region = self._session.region_name or ""

    def has_credentials(self) -> bool:
        return self._session.get_credentials() is not None

    def who(self) -> str:
        """Account and user. Raises BotoCoreError or ClientError if AWS does not know these credentials."""
        answer = self._session.client("sts").get_caller_identity()
        return f"account {answer['Account']}, {answer['Arn']}"

    def machines(self, kit: str, test: str = "") -> list[Seen]:
        """All machines of the kit, or of one of its tests, ended ones included."""
        filters = [{"Name": "tag-key", "Values": [TAG]}]
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)
        rows = [
            row for page in pages for reservation in page["Reservations"] for row in reservation["Instances"]
        ]
        return [_seen(row) for row in rows if _is_ours(row, kit, test)]

    def terminate(self, machines: Iterable[str]) -> None:
        self._ec2.terminate_instances(InstanceIds=list(machines))

    def key_pairs(self) -> set[str] | None:
        """The account's key pairs. None if that may not be seen."""
        found = self._allowed("describe_key_pairs")
        return None if found is None else {row["KeyName"] for row in found["KeyPairs"]}

    def left(
        self, kit: str, runs: set[str], key_pairs_before: set[str] | None
    ) -> tuple[list[str], list[str]]:
        """What of the kit is still there, and what could not be looked at for want of a permission."""
        there = [f"machine {each.id} ({each.state})" for each in self.machines(kit) if not _is_over(each)]
        unseen = []
        filters = [{"Name": "tag-key", "Values": [_RUN_TAG]}]
        groups = self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        there += [f"security group {row['GroupId']}" for row in groups if _tags(row).get(_RUN_TAG) in runs]
        volumes = self._allowed("describe_volumes", Filters=[{"Name": "tag-key", "Values": [TAG]}])
        if volumes is None:
            unseen.append("volumes (ec2:DescribeVolumes)")
        else:
            there += [f"volume {row['VolumeId']}" for row in volumes["Volumes"] if _is_ours(row, kit)]
        key_pairs = self.key_pairs()
        if key_pairs is None or key_pairs_before is None:
            unseen.append("key pairs (ec2:DescribeKeyPairs)")
        else:
            there += [f"key pair {name}" for name in sorted(key_pairs - key_pairs_before)]
        return there, unseen

    @property
    def _ec2(self) -> Any:
        return self._session.client("ec2")

    def _allowed(self, call: str, **request: Any) -> Any:
        """The answer to a call that the product's policy does not need. None if it is not allowed."""
        try:
            return getattr(self._ec2, call)(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] == "UnauthorizedOperation":
                return None
            raise


def open_account(region: str | None, profile: str | None) -> tuple[Account, str]:
    """The account, and who we are there. Raises SystemExit with a sentence if there is none."""
    try:
        account = Account(region, profile)
        if not account.has_credentials():
            raise SystemExit(
                "no AWS credentials were found, so nothing can be tested on AWS. Log in as docs/first-run.md "
                "says (aws configure, aws sso login, AWS_PROFILE …), or try the kit without an account: "
                "scripts/live --cloud local"
            )
        if not account.region:
            raise SystemExit("no AWS region is set: name one with --region, such as eu-central-1")
        return account, account.who()
    except (BotoCoreError, ClientError) as error:
        raise SystemExit(f"AWS does not accept these credentials: {error}") from error


def wait_until_over(account: Account, kit: str, test: str, limit_s: float) -> dict[str, float]:
    """When each machine was first seen ended. Those that did not end within the limit are missing."""
    over: dict[str, float] = {}
    deadline = time.monotonic() + limit_s
    while True:
        machines = account.machines(kit, test)
        for each in machines:
            if _is_over(each):
                over.setdefault(each.id, time.time())
        if len(over) == len(machines) or time.monotonic() > deadline:
            return over
        time.sleep(1.0)


def _is_over(machine: Seen) -> bool:
    return machine.state == "terminated"


def _is_ours(row: Mapping[str, Any], kit: str, test: str = "") -> bool:
    value = _tags(row).get(TAG, "")
    return value == f"{kit}/{test}" if test else value.startswith(f"{kit}/")


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())}


def _seen(row: Mapping[str, Any]) -> Seen:
    told = _ENDED_AT.search(row.get("StateTransitionReason") or "")
    ended_at = None
    if told:
        ended_at = datetime.strptime(told[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return Seen(
        id=row["InstanceId"],
        state=row["State"]["Name"],
        launched_at=row["LaunchTime"].timestamp(),
        ended_at=ended_at,
        reason=(row.get("StateReason") or {}).get("Code", ""),
    )
