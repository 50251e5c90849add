"""Tags of machines: whose a machine is, what it runs, when it ends. And the tokens of launches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from snakemake_executor_ec2.errors import ConfigurationError

RUN_TAG = "snakemake-ec2:run"
RULE_TAG = "snakemake-ec2:rule"
OWNER_TAG = "snakemake-ec2:owner"
EXPIRES_TAG = "snakemake-ec2:expires-at"
FOLDER_TAG = "snakemake-ec2:folder"
AWAY_RULE = "away controller"
"""Instead of a rule, of a machine that runs a whole workflow: no rule can be called so."""
SOFTWARE_TAG = "snakemake-ec2:software"
"""Of images: the digest of what they hold."""
BASE_TAG = "snakemake-ec2:base"
HOLDS_TAG = "snakemake-ec2:holds"
_TAG_CHARS = set(" +-=._:/@")
"""What every AWS service takes in tags, beside letters and digits."""
_MAX_TAGS = 50
_MAX_TAG_KEY = 128
_MAX_TAG_VALUE = 256
_OUR_PREFIX = "snakemake-ec2:"


def client_token(*parts: str) -> str:
    """A ClientToken that is a function of its parts: 64 hexadecimal digits.

    The parts are run, job, attempt and whatever makes this launch another one than the last.
    """
    # As JSON, so that ("ab", "c") and ("a", "bc") differ.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def tags(
    *,
    run_id: str,
    rule: str,
    owner: str,
    expires_at: float,
    folder: str = "",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A machine's tags: whose it is, what it runs and when it ends on its own.

    No job is named: it may have several, and machines that are launched together share their tags.
    `expires_at` is in seconds since the epoch; `extra` are the user's own tags. Our own
    values are made to fit EC2's rules; the user's are refused (ConfigurationError) where
    they don't fit, because cost reports look for exactly what was written.
    """
    ours = {
        "Name": f"snakemake: {rule}",
        RUN_TAG: run_id,
        RULE_TAG: rule,
        OWNER_TAG: owner,
        EXPIRES_TAG: datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if folder:
        ours[FOLDER_TAG] = folder
    fitting = {key: _fit(value) for key, value in ours.items()}
    return fitting | check_tags(extra or {}, taken=len(ours))


def image_tags(
    *, name: str, digest: str, base: str, base_name: str, holds: str, owner: str
) -> dict[str, str]:
    """The tags of an image and its snapshots: what it holds, what it was made from, and by whom."""
    made_from = f"{base} {base_name}"
    ours = {"Name": name, SOFTWARE_TAG: digest, BASE_TAG: made_from, HOLDS_TAG: holds, OWNER_TAG: owner}
    return {key: _fit(value) for key, value in ours.items()}


def check_tags(extra: Mapping[str, str], *, taken: int = 6) -> dict[str, str]:
    """The user's tags, as they are. Raises ConfigurationError for one that EC2 would refuse.

    `taken` is the number of tags that we set ourselves.
    """
    if len(extra) + taken > _MAX_TAGS:
        raise ConfigurationError(
            f"{len(extra)} tags are too many; {_MAX_TAGS - taken} fit beside the executor's own"
        )
    for key, value in extra.items():
        if not key or len(key) > _MAX_TAG_KEY:
            raise ConfigurationError(f"tag {key!r}: a tag's name has 1 to {_MAX_TAG_KEY} characters")
        if len(value) > _MAX_TAG_VALUE:
            raise ConfigurationError(f"tag {key!r}: a tag's value has at most {_MAX_TAG_VALUE} characters")
        if key.lower().startswith("aws:") or key.startswith(_OUR_PREFIX):
            raise ConfigurationError(f"tag {key!r}: names that begin with aws: or {_OUR_PREFIX} are reserved")
        wrong = sorted({char for char in key + value if not _fits(char)})
        if wrong:
            raise ConfigurationError(
                f"tag {key!r}: the character {wrong[0]!r} is not allowed; letters, digits, "
                "blanks and + - = . _ : / @ are"
            )
    return dict(extra)


def _fit(value: str) -> str:
    cleaned = "".join(char if _fits(char) else "_" for char in value)
    return cleaned[:_MAX_TAG_VALUE]


def _fits(char: str) -> bool:
    return char in _TAG_CHARS or char.isalpha() or char.isdecimal()
