"""The first five minutes, word for word: ``make run`` in a copy of the checkout, and the README's commands.

The copy has an environment already (this one's), so that what is tried is the house and not pip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sandbox_fixture import TOKEN

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [block.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]
CLEAN = {
    name: value for name, value in os.environ.items() if not name.startswith(("REFUND_", "PYTEST", "MAKE"))
}


@dataclass
class Checkout:
    """A copy of the checkout in which ``make run`` is running."""

    folder: Path
    said: str
    key: str
    api: str = "http://127.0.0.1:8080"

    def sh(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=CLEAN,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def post(self, body: dict[str, Any], key: str, **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": key, "Prefer": "wait=5"} | headers
        return httpx.post(f"{self.api}/v1/refunds", json=body, headers=sent, trust_env=False, timeout=20)

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.get(f"{self.api}{path}", headers=headers, trust_env=False, timeout=20).json()


def copy_of_checkout(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    # Whatever was edited since: the environment is taken as it is.
    for name in ("pyproject.toml", "requirements-dev.lock"):
        os.utime(folder / name, (0, 0))


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("not run by make: there is no .venv/.ready")
    # Not below pytest's folder: that is closed to the user that root lends the database.
    folder = Path("/tmp") / f"refunds-first-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o755)
    copy_of_checkout(folder)
    process = subprocess.Popen(
        ["make", "run"], cwd=folder, env=CLEAN, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        key = re.search(r"rk_test_\w+", said)
        assert key, f"make run said: {said}"
        yield Checkout(folder, said, key[0])
    finally:
        os.killpg(process.pid, signal.SIGINT)
        # make goes at once; whoever holds its output is still putting things away.
        if process.stdout:
            process.stdout.read()
            process.stdout.close()
        process.wait(30)
        shutil.rmtree(folder)


def test_it_prints_address_key_order_and_a_curl_that_works_as_printed(checkout: Checkout) -> None:
    assert "http://127.0.0.1:8080" in checkout.said
    assert "/docs" in checkout.said
    assert "ORDER-1001 (EUR 59.90, paid at the sandbox)" in checkout.said
    printed = next(line for line in checkout.said.splitlines() if line.startswith("curl"))

    answer = json.loads(checkout.sh(printed).stdout)

    assert answer["status"] == answer["outcome"] == "succeeded"
    assert answer["livemode"] is False
    assert (answer["amount"], answer["amount_decimal"], answer["currency"]) == (1250, "12.50", "EUR")
    assert answer["order_id"] == "ORDER-1001"
    payment = answer["payment"]
    assert (payment["captured"], payment["held"], payment["refunded"], payment["available"]) == (
        5990,
        0,
        1250,
        4740,
    )
    assert (answer["decision"]["outcome"], answer["decision"]["rule"]) == ("allowed", "default")
    assert answer["expected_by"]
    assert answer["links"]["self"].endswith(answer["id"])


def test_the_same_again_is_the_same_refund_and_another_body_is_refused(checkout: Checkout) -> None:
    body = {"order_id": "ORDER-1001", "amount": 1250, "reason": "customer_request"}
    first = checkout.post(body, "first-1")
    again = checkout.post(body, "first-1")

    assert again.status_code == 201
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"

    other = checkout.post(body | {"amount": 1300}, "first-1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_more_than_is_left_is_refused_with_the_numbers(checkout: Checkout) -> None:
    checkout.post({"order_id": "ORDER-1001", "amount": 1250, "reason": "customer_request"}, "first-1")
    left = checkout.get("/v1/orders/ORDER-1001")["available"]

    refused = checkout.post({"order_id": "ORDER-1001", "amount": 9999}, "much-too-much")

    assert (refused.status_code, refused.json()["code"]) == (422, "amount-exceeds-available")
    assert (refused.json()["asked"], refused.json()["available"]) == (9999, left)
    assert refused.json()["links"]["payment"].startswith("/v1/payments/pay_")


def test_a_lost_answer_is_found_within_twenty_seconds_and_paid_once(checkout: Checkout) -> None:  # UNK-01
    asked = checkout.post(
        {"order_id": "ORDER-1001", "amount": 101, "metadata": {"sandbox": "lose_answer"}}, "lost-1"
    ).json()
    assert asked["status"] == "unknown"

    deadline = time.monotonic() + 20
    while (seen := checkout.get(f"/v1/refunds/{asked['id']}"))["status"] == "unknown":
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)

    assert seen["status"] == "succeeded"
    sandbox = checkout.get(f"/v1/refunds/{asked['id']}/attempts")["data"]
    assert [call["kind"] for call in sandbox[0]["calls"]] == ["send", "look_up"]
    record = [
        json.loads(line) for line in (checkout.folder / ".data/sandbox-record.jsonl").read_text().splitlines()
    ]
    executed = [fact for fact in record if fact["fact"] == "execution" and fact["amount"] == 101]
    assert len(executed) == 1, record
    assert TOKEN not in str(record)


def test_a_payment_of_ones_own_shop_comes_with_its_refund(checkout: Checkout) -> None:
    payment = {"gateway_payment_id": "pi_3own", "captured": 5990, "currency": "EUR", "order_id": "A-77"}

    answer = checkout.post({"payment": payment, "amount": 1250, "reason": "damaged"}, "own-1")

    assert answer.status_code == 201
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["order_id"] == "A-77"


def test_the_events_are_told_oldest_first(checkout: Checkout) -> None:
    asked = checkout.post({"order_id": "ORDER-1002", "amount": 100}, "events-1").json()

    told = [event for event in everything(checkout) if event["data"].get("refund_id") == asked["id"]]

    assert [event["type"] for event in told] == ["refund.created", "refund.processing", "refund.succeeded"]
    assert [event["sequence"] for event in told] == [1, 2, 3]


def everything(checkout: Checkout) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    page = checkout.get("/v1/events?limit=100")
    while page["data"]:
        events += page["data"]
        page = checkout.get(f"/v1/events?limit=100&cursor={page['next_cursor']}")
    return events


@pytest.mark.parametrize("command", [one for one in COMMANDS if not one.startswith("make run")])
def test_a_command_of_the_readme_works(checkout: Checkout, command: str) -> None:
    done = checkout.sh(command if command.startswith("K=") else f"K=$(cat .data/demo-key)\n{command}")

    assert done.returncode == 0, done.stdout + done.stderr
    if "curl" in command:
        answer = json.loads(done.stdout)
        assert "code" not in answer, answer


def test_the_docs_page_brings_its_own_files(checkout: Checkout) -> None:
    page = httpx.get(f"{checkout.api}/docs", trust_env=False)
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert httpx.get(f"{checkout.api}/{name}", trust_env=False).status_code == 200, name
