"""Seals gateway credentials so that the database alone does not give them away.

AES-256-GCM, bound to the merchant and the row: a sealed value that is moved to another row, or
whose key is not the one it names, does not open.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SCHEME: Final = b"refund-service credentials 1"


class SealBroken(Exception):
    """What was sealed cannot be opened: another key, another row, or changed bytes."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed value and the id of the key that opens it."""

    key_id: str
    blob: bytes


class Keyring:
    """The sealing keys by id. New values are sealed with the primary one; the others still open."""

    def __init__(self, keys: Mapping[str, bytes], *, primary: str) -> None:
        if primary not in keys:
            raise ValueError(f"the primary sealing key {primary!r} is not among the keys")
        if wrong := [key_id for key_id, key in keys.items() if len(key) != KEY_BYTES]:
            raise ValueError(f"sealing keys have {KEY_BYTES} bytes; not so: {', '.join(wrong)}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._primary = primary

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)}; primary {self._primary})"

    def seal(self, plaintext: bytes, *, bound_to: bytes) -> Sealed:
        """Seal with the primary key."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self._primary]
        blob = nonce + cipher.encrypt(nonce, plaintext, _context(self._primary, bound_to))
        return Sealed(self._primary, blob)

    def open(self, sealed: Sealed, *, bound_to: bytes) -> bytes:
        """The plaintext, or ``SealBroken``."""
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise SealBroken(f"no sealing key {sealed.key_id!r} here")
        nonce, ciphertext = sealed.blob[:_NONCE_BYTES], sealed.blob[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, ciphertext, _context(sealed.key_id, bound_to))
        except (InvalidTag, ValueError) as failure:
            raise SealBroken("another key, another row, or changed bytes") from failure

    def outdated(self, sealed: Sealed) -> bool:
        """Whether a rotation still has to seal this anew, with the primary key."""
        return sealed.key_id != self._primary


def row_of(merchant_id: UUID, row_id: UUID) -> bytes:
    """What credentials are bound to: the merchant and the row they stand in."""
    return merchant_id.bytes + row_id.bytes


def _context(key_id: str, bound_to: bytes) -> bytes:
    return b"\n".join((_SCHEME, key_id.encode(), bound_to))
