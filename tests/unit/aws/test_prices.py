"""Prices from the Pricing API's JSON and from EC2's spot history."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from snakemake_executor_ec2.aws.prices import fetch_on_demand, fetch_spot, on_demand_price
from tests.unit.aws.scripted import ScriptedEc2, client_error


def product(name: str, *prices: str, unit: str = "Hrs") -> str:
    """A product of the price list, as the API writes it: JSON in a string."""
    dimensions = {
        f"d{number}": {"unit": unit, "pricePerUnit": {"USD": price}} for number, price in enumerate(prices)
    }
    return json.dumps(
        {
            "product": {"attributes": {"instanceType": name, "vcpu": "2"}},
            "terms": {"OnDemand": {"offer": {"priceDimensions": dimensions}}},
        }
    )


def test_price() -> None:
    """The dollars of an hour are found; zeros are no prices."""
    assert dict(on_demand_price(product("m7i.large", "0.0000000000", "0.1008000000"))) == {
        "m7i.large": 0.1008
    }


@pytest.mark.parametrize(
    "text",
    ["{}", product("m7i.large", "0.0"), product("", "1.0"), product("m7i.large", "5.0", unit="Quantity")],
)
def test_no_price(text: str) -> None:
    """A product without an hourly price gives none."""
    assert dict(on_demand_price(text)) == {}


class Pricing(ScriptedEc2):
    """A price list that knows what its filters mean."""

    def __init__(self, prices: dict[str, tuple[int, str]]) -> None:
        super().__init__()

        def answer(Filters: list[dict[str, str]], **_: Any) -> dict[str, Any]:  # noqa: N803  (boto3's name)
            wanted = {each["Field"]: each["Value"] for each in Filters}
            found = [
                product(name, price)
                for name, (vcpus, price) in prices.items()
                if wanted.get("instanceType", name) == name and wanted.get("vcpu", str(vcpus)) == str(vcpus)
            ]
            return {"PriceList": found}

        self.answer("get_products", answer)


PRICES = {"a.large": (2, "0.1"), "b.large": (2, "0.2"), "c.xlarge": (4, "0.4")}


def test_whole_region() -> None:
    """Without names, the whole region is fetched, in one part for each number of vCPUs."""
    pricing: Any = Pricing(PRICES)
    found = fetch_on_demand(pricing, "us-east-1", names=[], vcpus=[2, 2, 4, 8])
    assert found == {"a.large": 0.1, "b.large": 0.2, "c.xlarge": 0.4}
    assert len(pricing.calls) == 3


def test_few_types() -> None:
    """Named types are asked for one by one."""
    pricing: Any = Pricing(PRICES)
    assert fetch_on_demand(pricing, "us-east-1", names=["b.large"], vcpus=[2, 4]) == {"b.large": 0.2}
    (call,) = pricing.called("get_products")
    filters = {each["Field"]: each["Value"] for each in call["Filters"]}
    assert filters == {
        "regionCode": "us-east-1",
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "tenancy": "Shared",
        "instanceType": "b.large",
    }


def test_failures_are_raised() -> None:
    """An error in one of the parallel parts is the caller's to judge."""
    pricing: Any = ScriptedEc2()
    pricing.answer("get_products", client_error("AccessDeniedException"))
    with pytest.raises(type(client_error("x"))):
        fetch_on_demand(pricing, "us-east-1", names=[], vcpus=[2, 4])


def test_spot() -> None:
    """Of several entries for a type and zone, the newest counts."""
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

    def row(price: str, when: datetime) -> dict[str, Any]:
        return {"InstanceType": "a.large", "AvailabilityZone": "a", "SpotPrice": price, "Timestamp": when}

    ec2: Any = ScriptedEc2()
    ec2.answer("describe_spot_price_history", {"SpotPriceHistory": [row("0.03", late), row("0.02", early)]})
    assert fetch_spot(ec2, late) == {("a.large", "a"): 0.03}
