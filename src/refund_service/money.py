"""Money as whole numbers of a currency's smallest unit.

Exponents (how many decimals a currency has) are those of ISO 4217, frozen here and
compared with the published list by a test. A gateway may differ: its traits say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LARGEST_AMOUNT: Final = 999_999_999_999
"""In minor units; exact in every client's number type (a double holds 2**53)."""

_CODES_BY_EXPONENT: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
        "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK "
        "LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO "
        "NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
        "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST "
        "XAD XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

EXPONENTS: Final[dict[str, int]] = {
    code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()
}


class UnknownCurrency(ValueError):
    """The code is not a currency of ISO 4217 that money can be held in."""


class CurrencyMismatch(ValueError):
    """Amounts of two currencies met in one sum."""


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """``minor`` units of ``currency``: ``Money(1250, "EUR")`` is twelve euros fifty."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in EXPONENTS:
            raise UnknownCurrency(self.currency)

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._same(other), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._same(other)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency}")
        return other.minor

    @property
    def decimal(self) -> str:
        """For human eyes: ``12.50``, ``1250`` in yen, ``1.250`` in Kuwaiti dinars."""
        return decimal_of(self.minor, self.currency)

    def split(self, weights: Sequence[int]) -> list[Money]:
        """Share out by weight and lose nothing: the parts add up to the whole.

        Largest remainder: who was cut the most by rounding down gets the spare units first;
        between equals the earlier one.
        """
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise ValueError("weights must not be negative and must not all be zero")
        sign = -1 if self.minor < 0 else 1
        shares = [divmod(abs(self.minor) * weight, total) for weight in weights]
        spare = abs(self.minor) - sum(whole for whole, _ in shares)
        by_loss = sorted(range(len(weights)), key=lambda i: (-shares[i][1], i))
        lucky = set(by_loss[:spare])
        return [Money(sign * (whole + (i in lucky)), self.currency) for i, (whole, _) in enumerate(shares)]


def decimal_of(minor: int, currency: str) -> str:
    """``minor`` units as a decimal string with the currency's number of decimals."""
    exponent = EXPONENTS[currency]
    if exponent == 0:
        return str(minor)
    whole, part = divmod(abs(minor), 10**exponent)
    return f"{'-' if minor < 0 else ''}{whole}.{part:0{exponent}d}"
