"""Which failures are certain: every way a call can break, against raw sockets that count what arrives."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    CannotTell,
    Found,
    Misconfigured,
    NotSent,
    PreparedRequest,
    Unknown,
)
from refund_service.gateways.ask import ask_refund, look_up
from refund_service.gateways.protocol import Response
from refund_service.gateways.sandbox import SandboxGateway
from refund_service.gateways.send import LARGEST_ANSWER, Sender, make_client

GATEWAY = SandboxGateway()
BRIEF = timedelta(seconds=0.6)
AMPLE = timedelta(seconds=10)


class RawServer:
    """Counts connections and whole requests, and lets ``play`` do the rest with the bare connection."""

    def __init__(self, play):
        self.play = play
        self.connections = 0
        self.requests = []
        self.heard = asyncio.Event()

    @property
    def sends(self):
        return len(self.requests)

    async def handle(self, reader, writer):
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.play(self, reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def take(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
        self.requests.append(head + body)
        self.heard.set()


@asynccontextmanager
async def listening(play, tls=None):
    server = RawServer(play)
    tasks = set()

    def accept(reader, writer):
        task = asyncio.create_task(server.handle(reader, writer))
        tasks.add(task)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(body=b"{}", status="200 OK", *more):
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


def saying(*replies):
    """Take a request for each reply, then stay."""

    async def play(server, reader, writer):
        for reply in replies:
            await server.take(reader)
            writer.write(reply)
            await writer.drain()
        await reader.read()

    return play


def taking_then_closing_after(reply):
    async def play(server, reader, writer):
        await server.take(reader)
        writer.write(reply)
        await writer.drain()

    return play


async def closing_at_once(server, reader, writer):
    """Not a byte is read."""


async def resetting(server, reader, writer):
    await server.take(reader)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def staying_silent(server, reader, writer):
    await server.take(reader)
    await reader.read()


async def dripping(server, reader, writer):
    await server.take(reader)
    for byte in answer(b"x" * 1000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def call(sender, account_at, new_command):
    async def do(url, time_limit=AMPLE, by=sender):
        account = account_at(url)
        request = GATEWAY.render_refund(new_command(), account)
        return await by.call(GATEWAY, account, request, time_limit=time_limit)

    return do


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody has vouched for: its file, and a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gateway.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "gateway.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context


class Pinned(AbstractResolver):
    """Every name is this address."""

    def __init__(self, address):
        self.address = address

    async def resolve(self, host, port=0, family=socket.AF_INET):
        if self.address is None:
            raise OSError(socket.EAI_NONAME, "no such name")
        return [
            {
                "hostname": host,
                "host": self.address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self):
        pass


@asynccontextmanager
async def a_sender(**options):
    sender = Sender(make_client(**options))
    try:
        yield sender
    finally:
        await sender.close()


# Nothing left this machine.


async def test_a_refused_connection_sent_nothing(call):
    assert isinstance(await call(f"http://127.0.0.1:{closed_port()}"), NotSent)


async def test_a_name_that_does_not_resolve_sent_nothing(call):
    async with a_sender(resolver=Pinned(None)) as sender:
        assert isinstance(await call("http://gateway.test", by=sender), NotSent)


async def test_a_host_that_swallows_connections_was_sent_nothing(call):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            assert isinstance(await call(f"http://127.0.0.1:{port}", BRIEF), NotSent)
        finally:
            for one in waiting:
                one.close()


async def test_a_host_that_does_not_speak_tls_was_sent_nothing(call):
    async def puzzled(server, reader, writer):
        await reader.read(1)
        writer.write(answer(b"", "400 Bad Request"))

    async with listening(puzzled) as server:
        assert isinstance(await call(server.url.replace("http:", "https:")), NotSent)


async def test_a_tls_handshake_that_never_ends_sent_nothing(call):
    async with listening(staying_silent) as server:
        reply = await call(server.url.replace("http:", "https:"), BRIEF)

    assert isinstance(reply, NotSent)
    assert server.sends == 0


async def test_a_certificate_that_nobody_vouches_for_was_sent_nothing(call, certificate):
    async with listening(saying(answer()), tls=certificate[1]) as server:
        reply = await call(server.url)

    assert isinstance(reply, NotSent)
    assert server.sends == 0


async def test_a_certificate_of_another_name_was_sent_nothing(call, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with (
        listening(saying(answer()), tls=certificate[1]) as server,
        a_sender(tls=trusting) as sender,
    ):
        reply = await call(server.url, by=sender)

    assert isinstance(reply, NotSent)
    assert server.sends == 0


async def test_a_pool_without_a_free_place_sent_nothing(call):
    async with listening(staying_silent) as server, a_sender(connections=1) as sender:
        holding = asyncio.create_task(call(server.url, AMPLE, sender))
        await server.heard.wait()
        reply = await call(server.url, BRIEF, sender)
        holding.cancel()

    assert isinstance(reply, NotSent)
    assert server.sends == 1


# Bytes may have left: no one can say.


@pytest.mark.parametrize(
    ("play", "arrived"),
    [
        pytest.param(taking_then_closing_after(b""), 1, id="closes without a byte"),
        pytest.param(resetting, 1, id="resets"),
        pytest.param(staying_silent, 1, id="never answers"),
        pytest.param(dripping, 1, id="drips"),
        pytest.param(taking_then_closing_after(b"HTTP/1.1 20"), 1, id="half a status line"),
        pytest.param(taking_then_closing_after(answer(b"{}" * 9)[:-18]), 1, id="headers only"),
        pytest.param(taking_then_closing_after(answer(b"{}" * 9)[:-9]), 1, id="half a body"),
        pytest.param(
            taking_then_closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
            1,
            id="half a chunk",
        ),
        pytest.param(taking_then_closing_after(b"HTTP/1.1 100 Continue\r\n\r\n"), 1, id="only a continue"),
        pytest.param(taking_then_closing_after(b"SSH-2.0-OpenSSH_9.2\r\n"), 1, id="not HTTP"),
        pytest.param(saying(answer(b"{}", "200 OK", "X: " + "y" * 100_000)), 1, id="headers without end"),
        pytest.param(saying(answer(b"x" * (LARGEST_ANSWER + 1))), 1, id="a body without end"),
        pytest.param(
            saying(answer(gzip.compress(b"{}"), "200 OK", "Content-Encoding: gzip")), 1, id="a packed body"
        ),
    ],
)
async def test_what_breaks_after_the_request_has_left_is_unknown_and_is_sent_once(call, play, arrived):
    async with listening(play) as server:
        reply = await call(server.url, BRIEF)

    assert isinstance(reply, Unknown)
    assert server.sends == arrived
    assert server.connections == 1


async def test_a_server_that_accepts_and_closes_may_have_read_the_request(call):
    async with listening(closing_at_once) as server:
        reply = await call(server.url)

    assert isinstance(reply, Unknown)
    assert server.connections == 1


async def test_a_server_that_hangs_up_after_the_tls_handshake_may_have_read_the_request(call, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with (
        listening(taking_then_closing_after(b""), tls=certificate[1]) as server,
        a_sender(tls=trusting, resolver=Pinned("127.0.0.1")) as sender,
    ):
        reply = await call(server.url.replace("127.0.0.1", "gateway.test"), by=sender)

    assert isinstance(reply, Unknown)
    assert server.sends == 1


async def test_a_kept_connection_that_closes_just_as_we_reuse_it_is_unknown_and_not_sent_again(call):
    async def play(server, reader, writer):
        await server.take(reader)
        writer.write(answer())
        await server.take(reader)

    async with listening(play) as server:
        first = await call(server.url)
        second = await call(server.url)

    assert isinstance(first, Response)
    assert isinstance(second, Unknown)
    assert (server.connections, server.sends) == (1, 2)


async def test_a_kept_connection_that_resets_just_as_we_reuse_it_is_unknown_and_not_sent_again(call):
    async def play(server, reader, writer):
        await server.take(reader)
        writer.write(answer())
        await resetting(server, reader, writer)

    async with listening(play) as server:
        await call(server.url)
        second = await call(server.url)

    assert isinstance(second, Unknown)
    assert (server.connections, server.sends) == (1, 2)


async def test_a_cancelled_call_hears_of_it_and_may_have_arrived(call):
    async with listening(staying_silent) as server:
        task = asyncio.create_task(call(server.url))
        await server.heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert server.sends == 1


async def test_the_time_limit_holds_however_steadily_the_answer_drips(call):
    began = asyncio.get_running_loop().time()
    async with listening(dripping) as server:
        await call(server.url, BRIEF)

    assert asyncio.get_running_loop().time() - began < 2 * BRIEF.total_seconds()


# What arrives.


async def test_an_answer_is_read_whole_with_its_headers_in_lower_case(call):
    async with listening(saying(answer(b'{"a":1}', "429 Too Many", "Retry-After: 7"))) as server:
        reply = await call(server.url)

    assert isinstance(reply, Response)
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (429, b'{"a":1}', "7")


async def test_the_largest_answer_is_still_read(call):
    async with listening(saying(answer(b"x" * LARGEST_ANSWER))) as server:
        reply = await call(server.url)

    assert isinstance(reply, Response)
    assert len(reply.body) == LARGEST_ANSWER


async def test_a_kept_connection_is_used_again_and_one_that_closed_in_time_is_not(call):
    async with listening(saying(answer(), answer())) as server:
        await call(server.url)
        await call(server.url)
        assert (server.connections, server.sends) == (1, 2)

    async with listening(saying(answer(b"{}", "200 OK", "Connection: close"))) as server:
        await call(server.url)
        assert isinstance(await call(server.url), Response)
        assert (server.connections, server.sends) == (2, 2)


async def test_a_redirect_is_an_answer_and_is_not_followed(call):
    async with listening(saying(answer())) as elsewhere:
        moved = answer(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}/")
        async with listening(saying(moved)) as server:
            reply = await call(server.url)

    assert isinstance(reply, Response)
    assert reply.status == 307
    assert (server.sends, elsewhere.connections) == (1, 0)


async def test_what_arrives_is_the_frozen_request_and_the_credentials_beside_it(
    sender, account_at, new_command
):
    async with listening(saying(answer())) as server:
        account = account_at(server.url + "/base/")
        request = GATEWAY.render_refund(new_command(), account)
        await sender.call(GATEWAY, account, request, time_limit=AMPLE)

    head, body = server.requests[0].split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /base/v1/refunds HTTP/1.1"
    assert body == request.body
    for name, value in request.headers.items():
        assert f"{name}: {value}".lower() in {line.lower() for line in lines}
    assert "authorization: Bearer sk_sandbox_for_tests" in lines


async def test_a_gateway_s_cookie_is_never_sent_back(call):
    # By name: from a bare address aiohttp keeps no cookies anyway.
    async with (
        listening(saying(answer(b"{}", "200 OK", "Set-Cookie: merchant=1"), answer())) as server,
        a_sender(resolver=Pinned("127.0.0.1")) as sender,
    ):
        for _ in range(2):
            await call(server.url.replace("127.0.0.1", "gateway.test"), by=sender)

    assert server.sends == 2
    assert b"cookie" not in server.requests[1].lower()


async def test_the_environment_s_proxies_are_not_asked(call, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    async with listening(saying(answer())) as server, a_sender() as sender:
        assert isinstance(await call(server.url, by=sender), Response)


async def test_an_address_can_be_pinned_below_the_pool(call):
    async with listening(saying(answer())) as server, a_sender(resolver=Pinned("127.0.0.1")) as sender:
        reply = await call(server.url.replace("127.0.0.1", "gateway.test"), by=sender)

    assert isinstance(reply, Response)
    assert b"host: gateway.test" in server.requests[0].lower()


async def test_of_many_at_once_each_leaves_once(call):
    async def play(server, reader, writer):
        for _ in range(100):
            await server.take(reader)
            writer.write(answer())

    async with listening(play) as server:
        replies = await asyncio.gather(*(call(server.url) for _ in range(100)))

    assert all(isinstance(reply, Response) for reply in replies)
    assert server.sends == len(set(server.requests)) == 100


# A request that cannot be put together leaves nothing behind.


@pytest.mark.parametrize(
    "credentials",
    [{}, {"token": "sk_sandbox_1\n"}, {"token": "sk_sandbox_1\r\nX-Evil: 1"}, {"token": "ключ"}],
)
async def test_credentials_that_cannot_be_sent_are_a_matter_for_a_person(  # SEC-10
    sender, account_at, new_command, credentials
):
    async with listening(saying(answer())) as server:
        account = replace(account_at(server.url), credentials=credentials)
        request = GATEWAY.render_refund(new_command(), account)
        reply = await sender.call(GATEWAY, account, request, time_limit=AMPLE)

    assert isinstance(reply, Misconfigured)
    assert "sk_sandbox_1" not in reply.reason
    assert server.connections == 0


@pytest.mark.parametrize(
    "base_url", ["", "127.0.0.1", "ftp://127.0.0.1", "http://", "http://[::1", "http://a b"]
)
async def test_an_address_that_is_none_sends_nothing(call, base_url):
    assert isinstance(await call(base_url), Misconfigured | NotSent)


@pytest.mark.parametrize("path", ["", "v1/refunds", "@evil.test/", ".evil.test/"])
async def test_a_path_cannot_lead_to_another_host(sender, account_at, path):
    async with listening(saying(answer())) as server:
        reply = await sender.call(
            GATEWAY, account_at(server.url), PreparedRequest("GET", path, {}, b""), time_limit=AMPLE
        )

    assert isinstance(reply, Misconfigured)
    assert server.connections == 0


# The two questions that the verbs ask.


def told(command, **otherwise):
    refund = {
        "id": "sbr_1",
        "status": "succeeded",
        "payment": command.payment_reference,
        "amount": command.amount.minor,
        "currency": command.amount.currency,
        "reference": str(command.key),
        **otherwise,
    }
    return answer(json.dumps(refund).encode(), "201 Created")


@pytest.fixture
def ask(sender, account_at):
    async def do(command, reply, gateway=GATEWAY):
        async with listening(saying(reply)) as server:
            account = account_at(server.url)
            return await ask_refund(
                sender, gateway, account, command, gateway.render_refund(command, account)
            )

    return do


async def test_a_refund_as_it_was_asked_for_is_accepted(ask, new_command):
    command = new_command()

    assert isinstance(await ask(command, told(command)), Accepted)


@pytest.mark.parametrize(
    "otherwise",
    [
        {"amount": 1251},
        {"amount": 1249},
        {"currency": "USD"},
        {"payment": "pay_2"},
        {"reference": "00000000-0000-4000-8000-000000000000"},
        {"status": "failed", "amount": 1},
    ],
)
async def test_a_refund_other_than_it_was_asked_for_is_unknown_and_called_a_mismatch(
    ask, new_command, otherwise
):
    command = new_command()
    reply = await ask(command, told(command, **otherwise))

    assert isinstance(reply, Unknown)
    assert reply.seen.startswith("mismatch:")


class Stumbling(SandboxGateway):
    """An adapter of somebody else's, with a bug."""

    def read_refund(self, response, command):
        raise KeyError("id")

    def read_look_up(self, response, probe):
        raise KeyError("id")


async def test_an_answer_that_the_adapter_stumbles_over_is_unknown(ask, new_command):
    command = new_command()

    assert isinstance(await ask(command, told(command), Stumbling()), Unknown)


class Repeatable(SandboxGateway):
    """An adapter that would ask by a method which the transport repeats by itself."""

    def render_refund(self, command, account):
        return replace(super().render_refund(command, account), method="PUT")


async def test_a_refund_is_never_asked_for_by_a_method_that_could_leave_twice(ask, new_command):
    command = new_command()

    assert isinstance(await ask(command, told(command), Repeatable()), Misconfigured)


@pytest.fixture
def search(sender, account_at, probe_of):
    async def do(command, reply, gateway=GATEWAY, time_limit_seconds=10):
        play = reply if callable(reply) else saying(reply)
        async with listening(play) as server:
            account = account_at(server.url, time_limit_seconds=time_limit_seconds)
            probe = probe_of(command)
            return await look_up(sender, gateway, account, probe, gateway.render_look_up(probe, account))

    return do


def listed(*refunds):
    return answer(b'{"data":[' + b",".join(one.split(b"\r\n\r\n")[1] for one in refunds) + b"]}")


async def test_a_look_up_finds_what_is_there_and_misses_what_is_not(search, new_command):
    command = new_command()

    assert isinstance(await search(command, listed(told(command))), Found)
    assert await search(command, listed()) == Absent()


@pytest.mark.parametrize("otherwise", [{"payment": "pay_2"}, {"reference": "somebody-else-s"}])
async def test_somebody_else_s_refund_is_not_ours(search, new_command, otherwise):
    command = new_command()
    finding = await search(command, listed(told(command, **otherwise)))

    assert isinstance(finding, CannotTell)
    assert finding.seen.startswith("mismatch:")


async def test_two_refunds_under_one_reference_are_not_resolved_by_machine(search, new_command):
    command = new_command()
    finding = await search(command, listed(told(command), told(command, id="sbr_2")))

    assert isinstance(finding, CannotTell)
    assert finding.seen.startswith("mismatch:")


@pytest.mark.parametrize(
    "play", [closing_at_once, resetting, staying_silent, taking_then_closing_after(answer(b"{}" * 9)[:-9])]
)
async def test_a_look_up_without_an_answer_tells_nothing(search, new_command, play):
    assert isinstance(await search(new_command(), play, time_limit_seconds=0.6), CannotTell)


async def test_a_look_up_that_nobody_hears_tells_nothing(sender, account_at, new_command, probe_of):
    account, probe = account_at(f"http://127.0.0.1:{closed_port()}"), probe_of(new_command())

    finding = await look_up(sender, GATEWAY, account, probe, GATEWAY.render_look_up(probe, account))

    assert isinstance(finding, CannotTell)


async def test_a_look_up_that_the_adapter_stumbles_over_tells_nothing(search, new_command):
    command = new_command()

    assert isinstance(await search(command, listed(told(command)), Stumbling()), CannotTell)
