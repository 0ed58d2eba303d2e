from __future__ import annotations

import pytest

from refund_service.gateways.registry import UnknownGateway, gateway_named, gateway_names
from refund_service.gateways.sandbox import SandboxGateway


def test_an_installed_gateway_is_found_by_its_name():
    assert isinstance(gateway_named("sandbox"), SandboxGateway)


def test_one_adapter_serves_all_accounts():
    assert gateway_named("sandbox") is gateway_named("sandbox")


@pytest.mark.parametrize("name", gateway_names())
def test_every_adapter_goes_by_the_name_it_is_found_under(name):
    assert gateway_named(name).name == name


@pytest.mark.parametrize("name", ["", "Sandbox", "sandbox:SandboxGateway", "paypall"])
def test_an_unknown_gateway_is_refused_with_those_that_are_known(name):
    with pytest.raises(UnknownGateway) as refused:
        gateway_named(name)

    assert (refused.value.status, refused.value.code) == (422, "gateway-unknown")
    assert "sandbox" in refused.value.facts["known"]
