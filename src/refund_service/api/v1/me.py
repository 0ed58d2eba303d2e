"""``/v1/me``: who the key is, what it may, and through which gateway accounts money goes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from refund_service.api.deps import Caller, InHouse, answer, needs_any_key
from refund_service.api.documented import problems
from refund_service.api.media import StrictRoute
from refund_service.api.wire import PublicId, Wire
from refund_service.gateways.accounts import accounts_of
from refund_service.merchants.roles import Role


class AccountOut(Wire):
    """A gateway account, without its credentials."""

    id: Annotated[UUID, PublicId("gateway_account")]
    name: str
    gateway: str
    status: str
    paused_reason: str | None


class MeOut(Wire):
    """The key that calls."""

    merchant_id: Annotated[UUID, PublicId("merchant")]
    livemode: bool
    subject: str
    actor: str
    role: Role
    scopes: list[str]
    gateway_accounts: list[AccountOut]


router = APIRouter(prefix="/v1", tags=["me"], route_class=StrictRoute)


@router.get("/me", operation_id="get_me", summary="Who am I", response_model=MeOut, responses=problems())
async def get_me(caller: Annotated[Caller, needs_any_key()], house: InHouse) -> Response:
    """Mode, scopes and gateway accounts of the key."""
    principal = caller.principal
    accounts = await accounts_of(house.db, principal.merchant_id)
    return answer(
        MeOut(
            merchant_id=principal.merchant_id,
            livemode=principal.livemode,
            subject=principal.subject,
            actor=caller.actor,
            role=principal.role,
            scopes=sorted(principal.scopes),
            gateway_accounts=[
                AccountOut(**{name: row[name] for name in AccountOut.model_fields}) for row in accounts
            ],
        )
    )
