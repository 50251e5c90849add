"""What is told of images: what they cost at most, and when one is worth making."""

from __future__ import annotations

from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.report import baking
from tests.unit.machines.test_baked import NOW, baked


def test_the_list_has_what_each_image_costs_and_all_together() -> None:
    """5 cents a month for each GiB, at most."""
    lines = baking.listed(
        [baked(), baked("ami-2", gib=100, made_at=NOW - 60, state="pending")], NOW
    ).splitlines()

    assert lines[1].split()[:7] == ["ami-own", "al2023", "available", "3", "days", "12", "$0.6000"]
    assert lines[2].split()[3:7] == ["60", "s", "100", "$5.00"]
    assert "al2023-ami (ami-base)" in lines[1]
    assert lines[4].split() == ["total", "112", "$5.60"]
    assert lines[5].startswith("Costs are at most these")


def test_what_an_image_holds_in_words() -> None:
    """Of texts only that there are any."""
    software = Software(snakemake="9.1", packages=("pandas==2.2",), setup="secret", tools=("conda",))
    assert baking.held(software) == "Snakemake 9.1, conda, --ec2-setup, pandas==2.2"


def test_a_hint_only_where_it_is_worth_it() -> None:
    """From a minute a machine on."""
    assert baking.hint([]) is None
    assert baking.hint([59.0, 61.0]) is None
    told = baking.hint([100.0, 200.0])
    assert told is not None
    assert told.startswith(
        "Installing software took 2.5 minutes a machine, on 2 machines: `snakemake-ec2 bake`"
    )
