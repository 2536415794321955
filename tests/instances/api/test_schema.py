"""What the OpenAPI document says about an instance's options."""

from __future__ import annotations

import pytest

from instances.domain.options import KNOWN
from instances.domain.serving import NUMBERS
from tests.conftest import ApiClient


@pytest.mark.django_db
def test_every_option_is_described_with_its_bounds_wherever_options_are_sent_or_shown() -> None:
    schemas = ApiClient().client.get("/openapi.json").json()["components"]["schemas"]
    shapes = [schema["properties"] for schema in schemas.values() if "restart_delay" in schema.get("properties", {})]
    assert len(shapes) >= 2
    for properties in shapes:
        assert set(properties) == set(KNOWN)
        for name, bounds in NUMBERS.items():
            assert (properties[name]["minimum"], properties[name]["maximum"]) == (bounds.smallest, bounds.largest)
            assert bounds.meaning in properties[name]["description"]
        assert properties["aliases"]["maxItems"] == 50
        assert properties["aliases"]["items"]["maxLength"] == 200
