"""moto is only changed where it is as it was known."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.wrap.patch import UnknownMoto, replace


class _Subject:
    there = 1


def test_what_is_missing_is_named_in_one_sentence() -> None:
    """Of the subject, the name, and moto's version; nothing is put there."""
    with pytest.raises(UnknownMoto, match=r"moto \d.* has no .*_Subject\.gone, which"):
        replace(_Subject, "gone", 2)
    assert not hasattr(_Subject, "gone")
    assert replace(_Subject, "there", 2) == 1
    assert _Subject.there == 2
