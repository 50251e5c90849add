"""Roles on instances: the temporary credentials that an instance profile gives, and what they allow.

As EC2 does it: an instance asks its metadata service, which has credentials that end; new ones are there some
minutes before the old ones do. A call that is signed with them needs their session token as well, and may do
what the role's policies allow, whatever else holds on the cloud.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends

from ..iam import Policies, Policy

LIFETIME_S = 6 * 3600.0
_NEW_BEFORE_S = 900.0
"""New credentials are there so long before the old ones end."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """Credentials of an instance, for a while."""

    instance_id: str
    role: str
    began_at: float
    ends_at: float
    access_key: str = field(default_factory=lambda: f"ASIA{secrets.token_hex(8).upper()}")
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(120), repr=False)

    @property
    def arn(self) -> str:
        """Who signs with them."""
        return f"arn:aws:sts::{DEFAULT_ACCOUNT_ID}:assumed-role/{self.role}/{self.instance_id}"


class RoleSessions:
    """All sessions of a cloud's instances. Any thread may use it."""

    def __init__(self, now: Callable[[], float] = time.time, lifetime_s: float = LIFETIME_S) -> None:
        self._now = now
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def of_key(self, access_key: str) -> Session | None:
        """The session that an access key belongs to, also one that has ended."""
        return self._sessions.get(access_key)

    def has_ended(self, session: Session) -> bool:
        return self._now() >= session.ends_at

    def metadata(self, instance_id: str, profile: Any) -> dict[str, dict[str, str]]:
        """What the metadata service has of an instance's profile: `info`, and credentials by the role's name;
        nothing if the profile has no role."""
        role = profile.roles[0].name if profile is not None and profile.roles else ""
        if not role:
            return {}
        session = self._current(instance_id, role)
        return {
            "info": {
                "Code": "Success",
                "LastUpdated": _written(session.began_at),
                "InstanceProfileArn": str(profile.arn),
                "InstanceProfileId": str(profile.id),
            },
            role: {
                "Code": "Success",
                "LastUpdated": _written(session.began_at),
                "Type": "AWS-HMAC",
                "AccessKeyId": session.access_key,
                "SecretAccessKey": session.secret_key,
                "Token": session.token,
                "Expiration": _written(session.ends_at),
            },
        }

    def _current(self, instance_id: str, role: str) -> Session:
        now = self._now()
        margin_s = min(_NEW_BEFORE_S, self._lifetime_s / 2)
        with self._lock:
            for each in self._sessions.values():
                if (each.instance_id, each.role) == (instance_id, role) and now < each.ends_at - margin_s:
                    return each
            made = Session(instance_id=instance_id, role=role, began_at=now, ends_at=now + self._lifetime_s)
            self._sessions[made.access_key] = made
            return made


def policies_of(role: str) -> Policies:
    """What a role may do: its own policies and those that are attached to it; nothing if it was deleted."""
    found = next(
        (each for each in iam_backends[DEFAULT_ACCOUNT_ID]["aws"].roles.values() if each.name == role), None
    )
    if found is None:
        return Policies(())
    versions = [version for policy in found.managed_policies.values() for version in policy.versions]
    attached = [version.document for version in versions if version.is_default]
    return Policies(tuple(Policy.parse(str(text)) for text in (*found.policies.values(), *attached)))


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
