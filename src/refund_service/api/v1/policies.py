"""``/v1/policies``, ``/v1/reasons``, ``/v1/decisions``: what is allowed, why, and what was decided."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from refund_service.api.deps import Caller, InHouse, KeyHeader, answer, claim_of, needs
from refund_service.api.documented import WITH_BODY, WITH_KEY, WITH_NAME, problems
from refund_service.api.given import path_id
from refund_service.api.media import StrictRoute
from refund_service.api.wire import Moment, PublicId, Text, Wire
from refund_service.clock import utc_now
from refund_service.merchants.roles import Scope
from refund_service.policies.decisions import DecisionNotFound, get_decision
from refund_service.policies.publish import current_policy, publish_policy
from refund_service.policies.reasons import catalogue, put_reason
from refund_service.policies.rules import ReasonCode, Rules


class PolicyIn(Wire):
    """Rules to put in force as the next version."""

    rules: Rules


class RulesOut(Wire):
    """What a refund must keep to. ``null`` means without that limit."""

    max_age_days: int | None
    max_amount: dict[str, int] | None
    reasons: list[str] | None


class PolicyOut(Wire):
    """The policy in force. Version 0 is the built-in one."""

    id: str = Field(examples=["policy-3"])
    version: int
    rules: RulesOut
    published_by: str | None
    published_at: Moment | None


class ReasonIn(Wire):
    """What a reason is called, and whether it may be given."""

    title: Annotated[str, Text(200)]
    active: bool = True


class ReasonOut(Wire):
    """Why money is given back."""

    code: str
    title: str
    active: bool


class ReasonList(Wire):
    """Every reason, the defaults included."""

    data: list[ReasonOut]


class CheckOut(Wire):
    """One rule, tried."""

    rule: str
    limit: Any
    found: Any
    passed: bool
    sentence: str


class DecisionOut(Wire):
    """Why a refund was allowed or refused: policy version, rule, facts and every rule tried."""

    id: Annotated[UUID, PublicId("decision")]
    outcome: str
    rule: str
    policy_version: int
    explanation: str
    payment_id: Annotated[UUID, PublicId("payment")]
    refund_id: Annotated[UUID, PublicId("refund")] | None
    facts: dict[str, Any]
    trace: list[CheckOut]
    decided_for: str
    decided_at: Moment


router = APIRouter(prefix="/v1", tags=["policies"], route_class=StrictRoute)
Reader = Annotated[Caller, needs(Scope.POLICIES_READ)]
Writer = Annotated[Caller, needs(Scope.POLICIES_WRITE)]


@router.post(
    "/policies",
    operation_id="publish_policy",
    summary="Put a policy in force",
    status_code=201,
    response_model=PolicyOut,
    responses=problems(*WITH_BODY, *WITH_KEY),
)
async def publish(
    request: Request, body: PolicyIn, caller: Writer, house: InHouse, _key: KeyHeader = None
) -> Response:
    """The next version; earlier ones stay as they were, and so do the decisions made under them."""
    merchant_id = caller.principal.merchant_id
    replayed = await publish_policy(
        house.db, merchant_id, body.rules, claim=claim_of(request), actor=caller.actor, now=utc_now()
    )
    return answer(await _current(house, merchant_id), status=201, replayed=replayed)


@router.get(
    "/policies/current",
    operation_id="get_current_policy",
    summary="Read the policy in force",
    response_model=PolicyOut,
    responses=problems(),
)
async def get_current(caller: Reader, house: InHouse) -> Response:
    """Where none was published: the built-in one, 365 days and any amount."""
    return answer(await _current(house, caller.principal.merchant_id))


@router.get(
    "/reasons",
    operation_id="list_reasons",
    summary="List the reasons for refunds",
    response_model=ReasonList,
    responses=problems(),
)
async def list_reasons(caller: Reader, house: InHouse) -> Response:
    """By code, the defaults included."""
    known = await catalogue(house.db, caller.principal.merchant_id)
    return answer(ReasonList.model_validate({"data": known}))


@router.put(
    "/reasons/{code}",
    operation_id="put_reason",
    summary="Add, rename or switch off a reason",
    response_model=ReasonOut,
    responses=problems(*WITH_NAME, *WITH_BODY),
)
async def put_one(
    code: Annotated[ReasonCode, Path()],
    body: ReasonIn,
    caller: Writer,
    house: InHouse,
) -> Response:
    """A reason that is not active cannot be given any more; refunds that have it keep it."""
    await put_reason(house.db, caller.principal.merchant_id, code, body.title, active=body.active)
    return answer(ReasonOut(code=code, title=body.title, active=body.active))


@router.get(
    "/decisions/{decision_id}",
    operation_id="get_decision",
    summary="Read why a refund was allowed or refused",
    response_model=DecisionOut,
    responses=problems(*WITH_NAME, DecisionNotFound),
)
async def get_one(
    decision_id: Annotated[UUID, path_id("decision_id", "decision", "`dec_…`")],
    caller: Reader,
    house: InHouse,
) -> Response:
    """With the facts it leaned on and every rule that was tried."""
    row = await get_decision(house.db, caller.principal.merchant_id, decision_id)
    told = {name: row[name] for name in DecisionOut.model_fields}
    trace = [CheckOut.model_construct(**check) for check in row["trace"]]
    return answer(DecisionOut.model_construct(**told | {"trace": trace}))


async def _current(house: InHouse, merchant_id: UUID) -> PolicyOut:
    row = await current_policy(house.db, merchant_id)
    return PolicyOut(
        id=f"policy-{row['version']}",
        version=row["version"],
        rules=RulesOut(**Rules.model_validate(row["rules"]).model_dump()),
        published_by=row["published_by"],
        published_at=row["published_at"],
    )
