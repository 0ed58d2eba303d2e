"""The pieces that wire models are made of: amounts, currencies, moments, ids, texts.

Each refuses what it may not hold with a code of its own, and describes itself rightly in OpenAPI.
Used as ``Annotated[UUID, PublicId("refund")]`` or ``note: Annotated[str, Text(500)]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from refund_service import ids
from refund_service.card_numbers import looks_like_card
from refund_service.clock import rfc3339
from refund_service.money import EXPONENTS, LARGEST_AMOUNT


class Wire(BaseModel):
    """What goes over the wire: unknown members refused, nothing converted, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


Amount = Annotated[
    int,
    Field(
        strict=True, ge=1, le=LARGEST_AMOUNT, description="In the currency's smallest unit", examples=[1250]
    ),
]
AmountOrZero = Annotated[
    int,
    Field(strict=True, ge=0, le=LARGEST_AMOUNT, description="In the currency's smallest unit", examples=[0]),
]


def _known_currency(code: str) -> str:
    if code not in EXPONENTS:
        raise PydanticCustomError(
            "currency-unknown", "It is not an upper-case ISO 4217 code of a currency in use."
        )
    return code


CurrencyCode = Annotated[
    str,
    AfterValidator(_known_currency),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[A-Z]{3}$",
            "description": "ISO 4217, upper case",
            "examples": ["EUR"],
        }
    ),
]


_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def _read_moment(value: object) -> datetime:
    if isinstance(value, datetime):
        # From our own hands, on the way out.
        return value
    told = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if told is None:
        raise PydanticCustomError("wrong-format", "It is not a time as in RFC 3339: 2026-03-01T12:00:00Z.")
    day, clock, fraction, zone = told.groups()
    if zone is None:
        raise PydanticCustomError(
            "zone-missing", "The time has no zone: end it with Z or an offset like +01:00."
        )
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:0<6}{zone.upper()}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("wrong-format", "There is no such time.") from None


Moment = Annotated[
    datetime,
    BeforeValidator(_read_moment),
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-01T12:00:00Z"]}),
]
"""A point in time. In: RFC 3339 with its zone. Out: UTC, ending in ``Z``."""


# What ends a line or steers a terminal; with ``lines`` a text may hold tabs and line feeds.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_IN_LINES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The same for the document; UTF-8 has no surrogates.
_NO_CONTROL: Final = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_NO_CONTROL_IN_LINES: Final = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]*$"


@dataclass(frozen=True, slots=True)
class Text:
    """Free text of up to ``most`` characters: no card numbers, no control characters."""

    most: int
    least: int = 1
    lines: bool = False
    """Whether it may have several lines."""

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True, min_length=self.least, max_length=self.most)
        return core_schema.no_info_after_validator_function(self._checked, text)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"pattern": _NO_CONTROL_IN_LINES if self.lines else _NO_CONTROL}

    def _checked(self, text: str) -> str:
        if (_CONTROL_IN_LINES if self.lines else _CONTROL).search(text):
            raise PydanticCustomError("control-character", "It holds control characters or line breaks.")
        return without_cards(text)


def without_cards(text: str) -> str:
    """The text, refused where it holds what can be a card number."""
    if looks_like_card(text):
        raise PydanticCustomError(
            "card-number", "It holds what looks like a card number; those are never stored."
        )
    return text


_VISIBLE: Final = "^[!-~]{1,255}$"

GatewayReference = Annotated[
    str,
    Field(
        strict=True, pattern=_VISIBLE, min_length=1, max_length=255, examples=["pi_3MtwBwLkdIwHu7ix28a3tqPa"]
    ),
]
"""An id that a gateway gave: some are bare digits, and every tenth of those looks like a card number."""

Reference = Annotated[
    str,
    Field(strict=True, pattern=_VISIBLE, min_length=1, max_length=255, examples=["ORDER-1001"]),
    AfterValidator(without_cards),
]
"""The merchant's own name for a thing: 1 to 255 visible ASCII characters."""


def every_name(schema: dict[str, Any]) -> None:
    """Tell of a mapping under fit names all that is so; pydantic leaves unfit names open to any value."""
    ((fit, values),) = schema.pop("patternProperties").items()
    schema["propertyNames"]["pattern"] = fit
    schema["additionalProperties"] = values


Metadata = Annotated[
    dict[Annotated[str, Text(40)], Annotated[str, Text(500, least=0)]],
    Field(
        max_length=50,
        description="Yours to use; never put personal data here",
        examples=[{"cart": "c-17"}],
        json_schema_extra=every_name,
    ),
]


@dataclass(frozen=True, slots=True)
class PublicId:
    """An id of one kind: ``rf_…`` outside, a UUID inside."""

    kind: str

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._show, return_schema=core_schema.str_schema()
            ),
        )

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return ids.schema(self.kind)

    def _read(self, value: object) -> UUID:
        if isinstance(value, UUID):
            return value
        try:
            return ids.read(self.kind, value if isinstance(value, str) else "")
        except ids.NotAnId:
            prefix = ids.PREFIXES[self.kind]
            raise PydanticCustomError(
                "not-an-id", "It is not an id of this kind.", {"prefix": prefix}
            ) from None

    def _show(self, id_: UUID) -> str:
        return ids.show(self.kind, id_)
