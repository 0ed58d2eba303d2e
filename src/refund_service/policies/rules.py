"""A merchant's policy as data. Unknown members are refused; nothing in it can run."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from refund_service.card_numbers import looks_like_card
from refund_service.money import EXPONENTS, LARGEST_AMOUNT

LargestAmount = Annotated[int, Field(strict=True, ge=1, le=LARGEST_AMOUNT)]


def _no_card(code: str) -> str:
    if looks_like_card(code):
        raise PydanticCustomError("card-number", "It holds what looks like a card number.")
    return code


def _known_currency(code: str) -> str:
    if code not in EXPONENTS:
        raise PydanticCustomError("currency-unknown", "It is not an upper-case ISO 4217 code in use.")
    return code


ReasonCode = Annotated[
    str, Field(strict=True, pattern="^[a-z][a-z0-9_]{0,63}$", examples=["damaged"]), AfterValidator(_no_card)
]
"""How a reason is named."""

_Currency = Annotated[str, AfterValidator(_known_currency), WithJsonSchema({"pattern": "^[A-Z]{3}$"})]
LargestAmounts = Annotated[
    dict[_Currency, LargestAmount], Field(json_schema_extra={"additionalProperties": False})
]


class Rules(BaseModel):
    """What a refund must keep to. ``null`` means without that limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_age_days: Annotated[int, Field(strict=True, ge=0, le=36_500)] | None = Field(
        default=365, description="Whole days since the capture, after which nothing is given back."
    )
    max_amount: LargestAmounts | None = Field(
        default=None,
        description="The largest single refund per currency, in minor units; none for those not named.",
        examples=[{"EUR": 50_000}],
    )
    reasons: list[ReasonCode] | None = Field(
        default=None,
        max_length=100,
        description="The reasons that are accepted, by code. `null` accepts every active one.",
        examples=[["damaged", "not_received"]],
    )


BUILT_IN: Final = Rules()
"""The policy of a merchant that has published none: version 0."""
