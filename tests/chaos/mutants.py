"""Six bugs that others had, planted on purpose: the checker is worth what it finds.

A mutant is data: in these files, in place of this text, that text. It is made on a copy of the
source that the processes import in place of ours, so nothing is patched at run time and the
product holds no test code.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class Edit:
    """One place of the source."""

    file: str
    """Below ``src/refund_service``."""
    before: str
    after: str


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    name: str
    edits: tuple[Edit, ...]
    statements: tuple[str, ...] = ()
    """What the schema loses with it, where a constraint would stop it."""


MUTANTS: Final = (
    # Read, compare, write: right for one request at a time. What the systems did that we learned from.
    Mutant(
        "no guard on available",
        (
            Edit(
                "refunds/creation.py",
                """
                available(payments) >= P("amount", BigInteger),
                or_(expected""",
                """
                or_(expected""",
            ),
        ),
        ("ALTER TABLE payments DROP CONSTRAINT ck_payments_within_capture",),
    ),
    # Two requests under one key at once both find nothing kept.
    Mutant(
        "key stored after",
        (
            Edit(
                "refunds/creation.py",
                """    write = WriteSet("refunds.create")
    claim_key(write)
    if inline:""",
                """    write = WriteSet("refunds.create")
    if inline:""",
            ),
            Edit(
                "refunds/creation.py",
                "def _refuse(*, inline: bool, keyed: bool) -> Select[Any]:\n",
                """def _keep_key():
    write = WriteSet("refunds.keep_key")
    claim_key(write)
    return write.done()


async def create_then_keep(db, inline, binds):
    claim = {name: value for name, value in binds.items() if name.startswith("claim_")}
    rest = {name: value for name, value in binds.items() if name not in claim}
    made = await db.write(CREATE[inline], claim_key=claim["claim_key"], **rest)
    await db.write(_keep_key(), merchant_id=binds["merchant_id"], now=binds["now"], **claim)
    return made


def _refuse(*, inline: bool, keyed: bool) -> Select[Any]:
""",
            ),
            Edit(
                "refunds/request.py",
                "await db.write(CREATE[inline], **binds)\n",
                "await create_then_keep(db, inline, binds)\n",
            ),
            Edit("refunds/request.py", "    CREATE,\n", "    CREATE,\n    create_then_keep,\n"),
        ),
        ("DROP INDEX uq_refunds_idempotency_key",),
    ),
    # A fresh key for every call: the gateway cannot know that it is the same refund.
    Mutant(
        "new gateway key on a resend",
        (
            Edit(
                "refunds/advance.py",
                "    request = case.request or gateway.render_refund(case.command, case.account)\n",
                """    command = replace(case.command, key=ids.new_id()) if case.request else case.command
    request = gateway.render_refund(command, case.account)
""",
            ),
            Edit(
                "refunds/advance.py",
                "from refund_service import metrics\n",
                "from refund_service import ids, metrics\n",
            ),
        ),
    ),
    # Silence taken for a no.
    Mutant(
        "timeout read as failed",
        (
            Edit(
                "gateways/ask.py",
                "        case NotSent() | Unknown() | Misconfigured():\n            return reply\n",
                """        case Unknown(seen) if "Timeout" in seen:
            return Declined(DeclineCode.OTHER, "timeout", seen)
        case NotSent() | Unknown() | Misconfigured():
            return reply
""",
            ),
            Edit(
                "gateways/ask.py",
                "    CannotTell,\n    Finding,\n",
                "    CannotTell,\n    DeclineCode,\n    Declined,\n    Finding,\n",
            ),
        ),
    ),
    # The gateway's own trouble taken for its no.
    Mutant(
        "5xx read as failed",
        (
            Edit(
                "gateways/sandbox/adapter.py",
                """            case status:
                return Unknown(f"HTTP {status}, {code}")
""",
                """            case status if status >= 500:
                return Declined(DeclineCode.OTHER, code, "")
            case status:
                return Unknown(f"HTTP {status}, {code}")
""",
            ),
        ),
    ),
    # Who was frozen with a job in hand sends it, though it is another's by now or canceled.
    Mutant(
        "lease not checked before a send",
        (
            Edit(
                "refunds/advance.py",
                """            await submit(
                desk.db, job, case, request, due_at=called_at + traits.in_flight_limit, now=called_at
            )
""",
                """            try:
                await submit(
                    desk.db, job, case, request, due_at=called_at + traits.in_flight_limit, now=called_at
                )
            except WriteRefused as refused:
                if refused.guard != "lease":
                    raise
""",
            ),
        ),
    ),
)


def mutated(mutant: Mutant, folder: Path) -> Path:
    """A copy of the source with this bug; the folder that holds it."""
    # With what is compiled already, which stays valid for what is not changed.
    shutil.copytree(SOURCE, folder)
    # Which schema it needs, a process sees by the migrations beside its source.
    shutil.copytree(SOURCE.parent / "migrations", folder.parent / "migrations")
    for edit in mutant.edits:
        path = folder / "refund_service" / edit.file
        text = path.read_text()
        if text.count(edit.before) != 1:
            raise ValueError(f"{mutant.name}: its place in {edit.file} is gone")
        path.write_text(text.replace(edit.before, edit.after))
    return folder
