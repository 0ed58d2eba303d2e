"""``python -m bench.slow_gateway``: a gateway that answers every refund after a while, and does nothing else.

It speaks as the sandbox does, and just enough HTTP for a client that keeps its connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from itertools import count

_ids = count(1)


def main() -> None:
    """Serve until ended; the first line on stdout is ``{"port": N}``."""
    told = argparse.ArgumentParser(prog="python -m bench.slow_gateway", description=__doc__)
    told.add_argument("--ms", type=float, required=True, help="how long each answer takes")
    asyncio.run(_serve(told.parse_args().ms / 1000))


async def _serve(seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = json.loads(await reader.readexactly(_length(head)))
                await asyncio.sleep(seconds)
                writer.write(_answer(body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _answer(asked: dict[str, object]) -> bytes:
    told = {name: asked[name] for name in ("payment", "amount", "currency", "reference")}
    body = json.dumps(told | {"id": f"slow_{next(_ids)}", "status": "succeeded"}).encode()
    head = f"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    main()
