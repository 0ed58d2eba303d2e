"""The edge around a small application, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import LogCapture

from refund_service import ids
from refund_service.api.edge import LARGEST_BODY, Edge
from refund_service.api.media import StrictRoute
from refund_service.api.pages import USUAL, Limit
from refund_service.api.patience import PatientServer
from refund_service.api.problem_pages import problem_pages
from refund_service.api.problems import Problems
from refund_service.api.refusals import Unauthorized
from refund_service.api.swagger import swagger_pages
from refund_service.api.visit import Visit, visit_of
from refund_service.api.wire import Amount, Metadata, PublicId, Wire
from refund_service.logs import mask_values, tell_exception


class Asked(Wire):
    amount: Amount
    metadata: Metadata = Field(default_factory=dict)


class Shown(BaseModel):
    refund_id: Annotated[UUID, PublicId("refund")]


@dataclass
class Desk:
    """What the little application did."""

    port: int
    asked: list[object] = field(default_factory=list)
    observed: list[tuple[str | None, str, int]] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, visit: Visit, method: str, status: int, took: float) -> None:
        assert took >= 0
        self.observed.append((visit.route, method, status))
        self.told.set()


def little_application(desk: Desk) -> FastAPI:  # noqa: C901 - a list of routes, not a procedure
    app = FastAPI(redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    Problems("https://refunds.example").install(app)
    router = APIRouter(route_class=StrictRoute)

    @router.post("/refunds", status_code=201)
    async def ask(asked: Asked, request: Request) -> dict[str, Any]:
        # Parsed once, and kept where FastAPI and the fingerprint find it.
        assert await request.json() is request.state.body
        desk.asked.append(request.state.body)
        return {"amount": asked.amount}

    @router.get("/refunds")
    async def list_refunds(limit: Limit = USUAL) -> dict[str, int]:
        return {"limit": limit}

    @router.get("/refunds/{refund_id}")
    async def show(refund_id: Annotated[UUID, PublicId("refund")]) -> Shown:
        return Shown(refund_id=refund_id)

    @router.post("/refunds/{refund_id}/cancel")
    async def cancel(refund_id: Annotated[UUID, PublicId("refund")]) -> Shown:
        return Shown(refund_id=refund_id)

    @router.post("/break")
    async def break_down() -> None:
        secret = "rk_live_" + "0123456789abcdef"
        raise RuntimeError(f"cannot use {secret}\nDETAIL: Failing row contains (Ada)")

    @app.get("/half")
    async def break_half_way() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("the other half")

        return StreamingResponse(pieces(), headers={"Content-Length": "8"})

    @app.post("/lenient")
    async def take_anything(body: dict[str, Any]) -> dict[str, Any]:
        return body

    async def authenticate(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer good":
            raise Unauthorized("No key.")
        visit = visit_of(request.scope)
        visit.merchant_id, visit.key_id = "mer_1", "key_1"
        visit.headers["RateLimit"] = '"key";r=1;t=1'

    app.state.authenticate = authenticate
    app.include_router(router, prefix="/v1")
    app.include_router(problem_pages())
    app.include_router(swagger_pages())
    return app


@pytest.fixture(scope="module")
async def open_desk() -> AsyncIterator[Desk]:
    # With the protocol named, asyncio sets TCP_NODELAY; without it each answer waits 40 ms for its body.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    desk = Desk(listener.getsockname()[1])
    app = Edge(little_application(desk), problems=Problems("https://refunds.example"), observe=desk.observe)
    server = PatientServer(app, Problems("https://refunds.example"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield desk
    server.should_exit = server.force_exit = True
    await running


@pytest.fixture
def desk(open_desk: Desk) -> Desk:
    open_desk.asked.clear()
    open_desk.observed.clear()
    open_desk.told.clear()
    return open_desk


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer good"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{desk.port}", headers=headers) as client:
        yield client


@pytest.fixture
def log() -> Iterator[LogCapture]:
    log, before = LogCapture(), structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, tell_exception, mask_values, log],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    yield log
    structlog.configure(**before)


def problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The reply, which is to be a whole problem document and nothing else."""
    told = reply.json()
    assert (reply.status_code, told["status"], told["code"]) == (status, status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert told["type"] == f"https://refunds.example/problems/{code}"
    assert told["request_id"] == reply.headers["x-request-id"]
    assert isinstance(told, dict)
    return told


async def lines(log: LogCapture, number: int) -> list[Any]:
    """What was logged; a request's own line comes after its answer has left."""
    async with asyncio.timeout(5):
        while len(log.entries) < number:
            await asyncio.sleep(0.005)
    return log.entries


async def post(client: httpx.AsyncClient, content: bytes, **headers: str) -> httpx.Response:
    return await client.post(
        "/v1/refunds", content=content, headers={"Content-Type": "application/json", **headers}
    )


def of_size(size: int) -> bytes:
    return b'{"amount":1}' + b" " * (size - 12)


def talk(port: int, head: bytes, pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """Send over a bare socket until told to stop; what came back, and whether the server closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        try:
            wire.sendall(head)
            for piece in pieces:
                wire.sendall(piece)
        except OSError:
            pass
        answer = b""
        try:
            while piece := wire.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        except TimeoutError:
            return answer, False
        return answer, True


def head(*lines: str) -> bytes:
    usual = (
        "POST /v1/refunds HTTP/1.1",
        "Host: here",
        "Authorization: Bearer good",
        "Content-Type: application/json",
    )
    return "\r\n".join([*usual, *lines, "", ""]).encode()


def chunked(size: int) -> Iterator[bytes]:
    for piece in plain(size):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def plain(size: int) -> Iterator[bytes]:
    for start in range(0, size, 32_768):
        yield b" " * min(32_768, size - start)


async def test_the_largest_body_is_taken_and_one_byte_more_is_not(client: httpx.AsyncClient) -> None:
    assert (await post(client, of_size(LARGEST_BODY))).status_code == 201
    problem(await post(client, of_size(LARGEST_BODY + 1)), 413, "body-too-large")


async def test_the_limit_holds_where_no_length_is_told(client: httpx.AsyncClient) -> None:  # SEC-01
    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 1000):
            yield of_size(size)[start : start + 1000]

    kind = {"Content-Type": "application/json"}
    taken = await client.post("/v1/refunds", content=pieces(LARGEST_BODY), headers=kind)
    assert taken.status_code == 201
    refused = await client.post("/v1/refunds", content=pieces(LARGEST_BODY + 1), headers=kind)
    problem(refused, 413, "body-too-large")


async def test_the_limit_holds_for_a_route_that_is_not_strict(desk: Desk) -> None:
    asked = head("Transfer-Encoding: chunked").replace(b"/v1/refunds", b"/lenient")
    answer, closed = await asyncio.to_thread(talk, desk.port, asked, chunked(LARGEST_BODY + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert closed


@pytest.mark.parametrize("size", [65 * 1024, 1_000_000, 50_000_000])
@pytest.mark.parametrize("told", [True, False])
async def test_a_large_body_is_refused_the_connection_closed_and_memory_stays_flat(  # SEC-01
    desk: Desk, size: int, told: bool
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if told:
        answer, closed = await asyncio.to_thread(
            talk, desk.port, head(f"Content-Length: {size}"), plain(size)
        )
    else:
        answer, closed = await asyncio.to_thread(
            talk, desk.port, head("Transfer-Encoding: chunked"), chunked(size)
        )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert b'"code":"body-too-large"' in answer
    assert closed
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
    assert desk.asked == []


async def test_who_stops_in_the_middle_of_too_much_is_not_waited_for(desk: Desk) -> None:
    asked = head("Content-Length: 1000000") + b" " * 100
    answer, closed = await asyncio.to_thread(talk, desk.port, asked, [])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert closed


async def heard_before_answered(body: int, *lines: tuple[bytes, bytes]) -> int:
    """How many bytes of a body the edge takes in before it begins to answer."""
    heard = 0
    started: list[int] = []

    async def receive() -> Message:
        nonlocal heard
        piece = min(65_536, body - heard)
        heard += piece
        return {"type": "http.request", "body": b" " * piece, "more_body": heard < body}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(heard)

    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it was refused at the door")

    scope = {"type": "http", "method": "POST", "path": "/v1/refunds", "headers": lines}
    await Edge(never, problems=Problems("https://refunds.example"))(scope, receive, send)
    return started[0]


async def test_who_has_nearly_finished_is_heard_out_and_who_goes_on_and_on_is_not() -> None:
    assert await heard_before_answered(300_000, (b"content-length", b"300000")) == 300_000
    assert await heard_before_answered(10**9, (b"content-length", b"1000000000")) <= 1024 * 1024 + 65_536
    assert (
        await heard_before_answered(300_000, (b"expect", b"100-continue"), (b"content-length", b"300000"))
        == 0
    )


async def test_who_asks_first_is_refused_before_sending(desk: Desk) -> None:
    asked = head("Content-Length: 50000000", "Expect: 100-continue")
    answer, closed = await asyncio.to_thread(talk, desk.port, asked, [])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert closed


async def test_an_endless_body_without_a_key_is_not_listened_to(desk: Desk) -> None:
    asked = head("Transfer-Encoding: chunked").replace(b"Bearer good", b"Bearer bad")
    answer, closed = await asyncio.to_thread(talk, desk.port, asked, chunked(50_000_000))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert closed


@pytest.mark.parametrize(
    "content",
    [b"[" * 2_000 + b"]" * 2_000, b"[" * 65_000, b"{", b"\xff", b'{"amount":' + b"1" * 5_000 + b"}"],
)
async def test_what_cannot_be_read_is_a_400(client: httpx.AsyncClient, content: bytes) -> None:  # SEC-03
    problem(await post(client, content), 400, "body-unreadable")


@pytest.mark.parametrize(
    ("content", "code", "pointer"),
    [
        (b'{"amount":NaN}', "body-malformed", "/amount"),
        (b'{"amount":1,"amount":2}', "body-malformed", "/amount"),
        (b'{"amount":true}', "request-invalid", "/amount"),
        (b'{"amount":"1"}', "request-invalid", "/amount"),
        (b'{"amount":1.0}', "request-invalid", "/amount"),
        (b'{"amount":9223372036854775808}', "request-invalid", "/amount"),
        (b'{"amount":1,"metadata":{"k":"4111111111111111"}}', "request-invalid", "/metadata/k"),
        (b'{"amount":1,"metadata":{"k":1}}', "request-invalid", "/metadata/k"),
        (b'{"amount":1,"amuont":2}', "request-invalid", "/amuont"),
        (b"{}", "request-invalid", "/amount"),
        (b"[]", "request-invalid", ""),
        (b"null", "request-invalid", ""),
        (b"", "request-invalid", ""),
    ],
)
async def test_what_may_not_be_said_is_a_422_that_points_at_it(
    client: httpx.AsyncClient, desk: Desk, content: bytes, code: str, pointer: str
) -> None:
    told = problem(await post(client, content), 422, code)
    assert [error["pointer"] for error in told["errors"]] == [pointer]
    assert "4111" not in json.dumps(told)
    assert desk.asked == []


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json, text/plain",
    ],
)
async def test_only_json_is_taken(client: httpx.AsyncClient, kind: str) -> None:  # SEC-28
    reply = await client.post(
        "/v1/refunds", content=b'{"amount":1}', headers={"Content-Type": kind} if kind else {}
    )
    problem(reply, 415, "media-type-unsupported")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON;charset=UTF-8", 'application/json ; charset="utf-8"']
)
async def test_json_is_json_however_its_type_is_spelled(client: httpx.AsyncClient, kind: str) -> None:
    assert (await post(client, b'{"amount":1}', **{"Content-Type": kind})).status_code == 201


async def test_a_compressed_body_is_not_read(client: httpx.AsyncClient) -> None:
    problem(
        await post(client, b'{"amount":1}', **{"Content-Encoding": "gzip"}), 415, "media-type-unsupported"
    )


async def test_the_key_is_asked_for_before_the_body_is_looked_at(client: httpx.AsyncClient) -> None:
    reply = await post(client, b"{", Authorization="Bearer bad")
    problem(reply, 401, "unauthorized")
    assert reply.headers["www-authenticate"] == 'Bearer realm="refund-service"'


async def test_the_parsed_body_is_kept_for_the_fingerprint(client: httpx.AsyncClient, desk: Desk) -> None:
    assert (await post(client, b'{"metadata": {"a": "b"}, "amount": 1}')).json() == {"amount": 1}
    assert desk.asked == [{"amount": 1, "metadata": {"a": "b"}}]


async def test_a_route_without_a_body_takes_none(client: httpx.AsyncClient) -> None:
    path = f"/v1/refunds/{ids.show('refund', ids.new_id())}/cancel"
    assert (await client.post(path)).status_code == 200
    assert (await client.post(path, content=b" {} ")).status_code == 200
    problem(await client.post(path, content=b'{"amount":1}'), 422, "request-invalid")


async def test_an_id_that_cannot_be_one_is_not_there(client: httpx.AsyncClient) -> None:
    id_ = ids.new_id()
    assert (await client.get(f"/v1/refunds/{ids.show('refund', id_)}")).json() == {
        "refund_id": ids.show("refund", id_)
    }
    for bad in (ids.show("payment", id_), str(id_), "' OR 1=1 --", "4111111111111111", "x" * 5_000):
        told = problem(await client.get(f"/v1/refunds/{bad}"), 404, "not-found")
        assert "4111" not in json.dumps(told)


async def test_a_parameter_that_is_wrong_is_named(client: httpx.AsyncClient) -> None:
    told = problem(await client.get("/v1/refunds", params={"limit": "1_0"}), 422, "request-invalid")
    assert [(error["in"], error["pointer"]) for error in told["errors"]] == [("query", "/limit")]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/refunds", "GET, POST"),
        ("OPTIONS", "/v1/refunds", "GET, POST"),
        ("HEAD", "/v1/refunds", "GET, POST"),
        ("TRACE", "/v1/break", "POST"),
        ("DELETE", "/v1/refunds/rf_x/cancel", "POST"),
        ("POST", "/problems", "GET"),
    ],
)
async def test_a_method_that_is_not_taken_names_those_that_are(  # SEC-29
    client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    reply = await client.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allow)
    if method != "HEAD":
        assert problem(reply, 405, "method-not-allowed")["allowed"] == allow.split(", ")


@pytest.mark.parametrize(
    "path",
    [
        "/v1%2frefunds",
        "/v1/refunds%2F",
        "/v1/..;/v1/refunds",
        "/v1%252frefunds",
        "/v1/refunds.",
        "/v1/refunds;a=b",
        "/V1/refunds",
        "/v1/refunds/",
        "//v1/refunds",
        "/v1/refunds%00",
        "/v1/%2e%2e/v1/refunds",
        "/v1%5crefunds",
        "/",
        "/v1/refunds/x%0d%0aSet-Cookie:a",
    ],
)
async def test_a_path_has_one_spelling(desk: Desk, path: str) -> None:  # SEC-32
    asked = f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode()
    answer, _ = await asyncio.to_thread(talk, desk.port, asked, [])
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"set-cookie" not in answer.lower().split(b"\r\n\r\n")[0]


async def test_headers_that_anyone_can_write_say_nothing(  # SEC-13
    client: httpx.AsyncClient, log: LogCapture
) -> None:
    spoofed = {
        "X-Forwarded-For": "10.0.0.1",
        "X-Merchant-Id": "mer_2",
        "X-User": "root",
        "X-HTTP-Method-Override": "POST",
    }
    await client.get("/v1/refunds", headers=spoofed)
    (line,) = await lines(log, 1)
    assert (line["merchant_id"], line["actor"], line["method"]) == ("mer_1", None, "GET")
    assert not {"10.0.0.1", "mer_2", "root"} & {str(value) for value in line.values()}


async def test_a_breakdown_tells_nothing_but_its_request_id(  # SEC-23
    client: httpx.AsyncClient, log: LogCapture, desk: Desk
) -> None:
    told = problem(await client.post("/v1/break", headers={"X-Request-Id": "mine-1"}), 500, "internal-error")
    assert told["request_id"] == "mine-1"
    assert told["detail"] == "The request could not be answered."
    failed, request = await lines(log, 2)
    assert failed["event"] == "request.failed"
    assert failed["request_id"] == request["request_id"] == "mine-1"
    assert failed["exception"]["cause"]["message"] == "cannot use rk_live_[masked]"
    assert request["status"] == 500
    assert "0123456789abcdef" not in str(log.entries)
    assert "Ada" not in str(log.entries)
    assert desk.observed == [("/v1/break", "POST", 500)]


async def test_an_answer_that_breaks_half_way_is_told_once_and_cut_off(desk: Desk, log: LogCapture) -> None:
    asked = b"GET /half HTTP/1.1\r\nHost: here\r\n\r\n"
    answer, closed = await asyncio.to_thread(talk, desk.port, asked, [])
    assert answer.endswith(b"half")
    assert closed
    assert [entry["event"] for entry in log.entries] == ["request.failed", "request"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), Unauthorized("too late")])
async def test_an_answer_that_has_begun_is_not_begun_again(log: LogCapture, error: Exception) -> None:
    sent: list[str] = []

    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await Edge(half, problems=Problems("https://refunds.example"))(scope, receive, send)
    assert sent == ["http.response.start"]
    assert log.entries[-1]["status"] == 200


async def test_the_edge_may_also_lie_inside_the_application(desk: Desk, log: LogCapture) -> None:
    app = little_application(desk)
    app.add_middleware(Edge, problems=Problems("https://refunds.example"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        reply = await client.post("/v1/break", headers={"Authorization": "Bearer good"})
    problem(reply, 500, "internal-error")
    assert [entry["event"] for entry in log.entries] == ["request.failed", "request"]


async def test_each_request_leaves_one_line(client: httpx.AsyncClient, log: LogCapture) -> None:
    await client.get(f"/v1/refunds/{ids.show('refund', ids.new_id())}")
    await client.get("/nowhere")
    known, unknown = await lines(log, 2)
    assert set(known) >= {
        "event",
        "request_id",
        "merchant_id",
        "key_id",
        "actor",
        "route",
        "method",
        "status",
        "code",
    }
    assert (known["event"], known["route"], known["status"], known["key_id"], known["code"]) == (
        "request",
        "/v1/refunds/{refund_id}",
        200,
        "key_1",
        None,
    )
    assert known["duration_ms"] >= 0
    assert (unknown["route"], unknown["status"], unknown["code"]) == (None, 404, "route-not-found")


@pytest.mark.parametrize("given", ["a", "A-1_b.c", "x" * 64])
async def test_a_fit_request_id_is_kept(client: httpx.AsyncClient, given: str) -> None:
    assert (await client.get("/v1/refunds", headers={"X-Request-Id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a;b", '"a"', "é"])
async def test_another_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    reply = await client.get("/v1/refunds", headers=[(b"X-Request-Id", given.encode())])
    answered = reply.headers.get_list("x-request-id")
    assert len(answered) == 1
    assert answered[0].startswith("req_")


async def test_answers_are_not_sniffed_stored_or_framed(client: httpx.AsyncClient) -> None:
    for reply in (await client.get("/v1/refunds"), await post(client, b"{"), await client.get("/v1/nowhere")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
    assert (await client.get("/v1/refunds")).headers["ratelimit"] == '"key";r=1;t=1'
    assert (await post(client, b"{")).headers["ratelimit"] == '"key";r=1;t=1'


@pytest.mark.parametrize("path", ["/docs", "/problems", "/problems/not-found"])
async def test_pages_run_no_script_of_others_and_fetch_nothing(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path, headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "//" not in page.text.replace("<!doctype", "")
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert (await client.get(page.url.join(address))).status_code == 200


async def test_the_document_behind_the_docs_is_served_here(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.1")
    started = (await client.get("/docs/start.js")).text
    assert '"openapi.json"' in started
    assert "validatorUrl: null" in started
    problem(await client.get("/docs/secrets.env"), 404, "route-not-found")


async def test_every_problem_has_a_page_for_people_and_one_for_programs(client: httpx.AsyncClient) -> None:
    for told in (await client.get("/problems")).json()["data"]:
        assert (await client.get(f"/problems/{told['code']}")).json() == told
    page = await client.get("/problems/body-unreadable", headers={"Accept": "text/html"})
    assert "<h1>The body cannot be read</h1>" in page.text
    problem(await client.get("/problems/<script>"), 404, "route-not-found")


async def test_who_leaves_is_let_go(desk: Desk, log: LogCapture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    writer.write(head("Content-Length: 100") + b"{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(5):
        await desk.told.wait()
    assert (log.entries[0]["status"], log.entries[0]["event"]) == (499, "request")
    assert desk.asked == []
