"""The line to a gateway fails in every way, and its certificate too: what each comes to at each kind of gateway."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from clockwork import NOTHING_THERE, Asked, Clock, PlayedGateway, Reply
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from customers import free_port
from fault_proxy import Fault, FaultProxy
from four_kinds import ACCOUNTS, ALWAYS_PAID, NEVER_SENT, SENT, assert_ends, until_settled
from house import House, Shop
from sandbox_fixture import Sandbox

from refund_service.gateways.send import Sender, make_client


@dataclass
class Behind:
    """A sandbox that is reached over a line of its own."""

    sandbox: Sandbox
    base_url: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sandbox, name)


@asynccontextmanager
async def over_a_line(sandbox: Sandbox, new_till: Callable[..., Any], **settings: Any) -> Any:
    """A shop at each kind of gateway, all behind one line."""
    async with FaultProxy.before(sandbox.base_url) as line:
        behind = Behind(sandbox, line.instead(sandbox.base_url))
        yield line, {name: await new_till(behind, **kind, **settings) for name, kind in ACCOUNTS.items()}


def mend(clock: Clock, shops: Mapping[str, Shop]) -> None:
    for shop in shops.values():
        clock.mend(shop.account_id)


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [
        # Nothing arrived. But bytes may have left, so no one knows until it was looked up.
        (Fault.REFUSE, False),
        (Fault.RESET, False),
        (Fault.BLACKHOLE, False),
        (Fault.DROP_ANSWER, True),
        (Fault.CUT_ANSWER, True),
        (Fault.SLOW, True),
    ],
)
async def test_whatever_the_line_does_it_is_paid_once_or_a_person_is_called(  # FLT-13, INC-02
    clock: Clock, sandbox: Sandbox, new_till: Callable[..., Any], fault: Fault, arrives: bool
) -> None:
    expected = SENT if arrives else NEVER_SENT
    async with over_a_line(sandbox, new_till, time_limit_seconds=2) as (line, shops):
        with line.failing(fault, seconds=5):
            refunds = {name: (await shop.ask(await shop.pay(), 1250)).json() for name, shop in shops.items()}
            for name, shop in shops.items():
                seen = await shop.until(refunds[name], "unknown")
                assert seen["payment"]["held"] == 1250, "silence is not a no"
        assert line.met[fault] >= len(shops)
        assert [len(shop.executions()) for shop in shops.values()] == [arrives] * len(shops)

        mend(clock, shops)
        await until_settled(clock, shops, refunds, expected)
        await assert_ends(shops, refunds, expected)


async def test_a_line_that_is_only_long_changes_nothing(  # FLT-13
    clock: Clock, sandbox: Sandbox, new_till: Callable[..., Any]
) -> None:
    async with over_a_line(sandbox, new_till) as (line, shops):
        with line.failing(Fault.LATENCY, seconds=0.1):
            refunds = {name: await shop.refund(await shop.pay(), 1250) for name, shop in shops.items()}
        assert line.met[Fault.LATENCY] > 0
        await assert_ends(shops, refunds, ALWAYS_PAID)


async def test_five_minutes_of_lost_answers_leave_a_backlog_that_drains(  # FLT-14, UNK-01
    clock: Clock, sandbox: Sandbox, new_till: Callable[..., Any]
) -> None:
    each = 4  # one more failure in a row and the breaker holds the rest back: then nothing is in doubt
    async with over_a_line(sandbox, new_till) as (line, shops):
        refunds: list[tuple[str, Shop, dict[str, Any]]] = []
        with line.failing(Fault.DROP_ANSWER):
            for name, shop in shops.items():
                refunds += [
                    (name, shop, (await shop.ask(await shop.pay(), 1250)).json()) for _ in range(each)
                ]
            for seconds in (0, 17, 67, 100, 116):
                mend(clock, shops)
                await clock.turn(seconds=seconds)
            for _, shop, refund in refunds:
                assert (await shop.see(refund))["status"] == "unknown"
        for _ in range(20):
            mend(clock, shops)
            await clock.turn(minutes=15)
        for name, shop, refund in refunds:
            assert (await shop.see(refund))["status"] == SENT[name].status, name
        for name, shop in shops.items():
            assert len(shop.executions()) == len({paid["payment"] for paid in shop.executions()}) == each, (
                name
            )


@pytest.mark.parametrize("executed", [True, False])
async def test_a_kept_connection_that_closes_under_a_request_makes_no_failure_and_no_double(  # GWP-16
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any], executed: bool
) -> None:
    def close_at_the_second(asked: Asked) -> Reply | None:
        if not asked.is_send:
            second = gateway.sends[1]
            known = executed or len(gateway.sends) > 2
            return (200, {"data": [gateway.shown(second)]}) if known else NOTHING_THERE
        return None if len(gateway.sends) == 2 else (201, gateway.shown(asked))

    gateway: PlayedGateway = await played(close_at_the_second)
    till = await new_till(gateway)
    await till.refund(await till.pay(), 1250)
    refund = await till.refund(await till.pay(), 1250)
    assert (gateway.connections, refund["status"]) == (1, "unknown"), "it was the kept connection"

    for seconds in (17, 67, 67):
        await clock.turn(seconds=seconds)

    assert (await till.see(refund))["status"] == "succeeded"
    assert len(gateway.sends) == (2 if executed else 3)
    assert len({asked.key for asked in gateway.sends}) == 2
    told = (await till.get(f"/v1/refunds/{refund['id']}/events"))["data"]
    assert "refund.failed" not in [event["type"] for event in told]


# --- certificates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    name: str = "127.0.0.1"
    from_days: int = -1
    until_days: int = 1
    vouched_for: bool = True


BAD = {
    "expired": Certificate(from_days=-3, until_days=-1),
    "of tomorrow": Certificate(from_days=1, until_days=3),
    "of another host": Certificate(name="127.0.0.2"),
    "of no one we know": Certificate(vouched_for=False),
}


def shows(file: Path, certificate: Certificate) -> ssl.SSLContext:
    """A server's context that shows it; the file is then one to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, certificate.name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=certificate.from_days))
        .not_valid_after(now + timedelta(days=certificate.until_days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(certificate.name))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    private = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(signed.public_bytes(form) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_nothing_is_sent_to_a_certificate_that_is_not_right_and_a_person_is_called(  # GWP-17
    own_house: House, tmp_path: Path, bad: Certificate
) -> None:
    bad_file, good_file, port = tmp_path / "bad.pem", tmp_path / "good.pem", free_port()
    wrong, right = shows(bad_file, bad), shows(good_file, Certificate())
    trusting = ssl.create_default_context(cafile=good_file)
    if bad.vouched_for:
        trusting.load_verify_locations(bad_file)
    sender = Sender(make_client(tls=trusting))
    own_house.desk = replace(own_house.desk, sender=sender)
    gateway = PlayedGateway(lambda asked: (201, gateway.shown(asked)), f"https://127.0.0.1:{port}")
    clock = Clock(own_house)
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        async with gateway.open(port, wrong):
            refund = (await shop.ask(await shop.pay(), 1250)).json()
            await own_house.start_worker()
            await clock.work()
            for _ in range(9):
                clock.mend(shop.account_id)
                await clock.turn(minutes=6)
            seen = await shop.see(refund)
            assert (seen["status"], seen["attention"]["code"]) == ("queued", "not_sent_for_long")
            assert (seen["payment"]["held"], gateway.asked) == (1250, [])

        async with gateway.open(port, right):
            clock.mend(shop.account_id)
            await clock.turn(minutes=6)
            seen = await shop.see(refund)
            assert (seen["status"], seen["attention"], len(gateway.sends)) == ("succeeded", None, 1)
        await own_house.stop_workers()
    await sender.close()
