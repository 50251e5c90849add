"""Reading user-data."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.local.userdata import parse


@given(st.binary(max_size=300))
def test_anything_can_be_read(data: bytes) -> None:
    """Whatever user-data is, reading it ends with complaints at most."""
    parse(data)
    parse(b"#cloud-config\n" + data)
    parse(b"\x1f\x8b" + data)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)))
def test_listed_words_are_quoted(words: list[str]) -> None:
    """A command given as a list reaches the program as it is, whatever is in its words."""
    import shlex

    found = parse(b"#cloud-config\n{}")
    found.config["runcmd"] = [words]
    script = found.commands("runcmd")
    assert script is not None
    assert shlex.split(script.decode().removeprefix("#!/bin/sh\n")) == words


def test_keys_for_the_default_user() -> None:
    """Keys at the top and those of an entry for the user count; another user's do not."""
    text = b"""#cloud-config
ssh_authorized_keys: [a]
users: [default, {name: ec2-user, ssh_authorized_keys: [b]}, {name: other, ssh_authorized_keys: [c]}]
"""
    assert parse(text).authorized_keys("ec2-user") == ["a", "b"]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [(None, "hi"), ("b64", "aGk="), ("text/plain", "hi"), ("gz+b64", "H4sIAAAAAAAAA8vIBACsKpPYAgAAAA==")],
)
def test_encodings_of_files(encoding: str | None, content: str) -> None:
    """write_files takes text, base64, and compressed base64."""
    found = parse(b"#cloud-config\n{}")
    found.config["write_files"] = [{"path": "/f", "content": content, "encoding": encoding}]
    assert found.files() == [("/f", b"hi", 0o644, False)]


def test_what_is_wrong_is_said() -> None:
    """Broken YAML, unknown kinds and unknown keys are named."""
    assert "Failed loading yaml" in parse(b"#cloud-config\n{[").complaints[0]
    assert "Unhandled" in parse(b"hello").complaints[0]
    assert parse(gzip.compress(b"#cloud-config\npackages: [x]")).complaints == [
        "packages: not part of this rehearsal"
    ]
