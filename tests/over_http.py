"""What tests over HTTP share: reading a refusal, and speaking to a socket by hand."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import httpx


def problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The reply, which is to be a whole problem document and nothing else."""
    assert reply.status_code == status, f"{reply.status_code}, not {status}: {reply.text}"
    assert reply.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = reply.json()
    assert (told["status"], told["code"]) == (status, code), reply.text
    assert told["type"].endswith(f"/problems/{code}")
    assert told["request_id"] == reply.headers["x-request-id"]
    assert told["title"]
    assert told["detail"]
    return told


def wrong(reply: httpx.Response, status: int = 422, code: str = "request-invalid") -> dict[str, str]:
    """What is wrong where, of a request that is refused for its members: pointer to code."""
    return {error["pointer"]: error["code"] for error in problem(reply, status, code)["errors"]}


async def speak(
    url: str, request: str, *headers: bytes, body: bytes | dict[str, Any] = b""
) -> tuple[int, bytes, bytes]:
    """Send a request as these very bytes; its status, head and body. ``request``: ``POST /v1/refunds``."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    address = urlsplit(url)
    lines = [f"{request} HTTP/1.1".encode(), b"Host: here", b"Connection: close", *headers]
    if content:
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(content)]
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + content)
        await writer.drain()
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, told = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.lower(), told
