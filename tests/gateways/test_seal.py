from __future__ import annotations

from uuid import uuid4

import pytest

from refund_service.gateways.seal import Keyring, SealBroken, Sealed, row_of

SECRET = b'{"token":"sk_sandbox_1"}'
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
ROW = row_of(uuid4(), uuid4())


@pytest.fixture
def ring():
    return Keyring({"old": OLD}, primary="old")


def test_what_is_sealed_opens_again_for_the_same_row(ring):
    assert ring.open(ring.seal(SECRET, bound_to=ROW), bound_to=ROW) == SECRET


def test_what_is_sealed_shows_nothing_of_the_secret_and_is_never_twice_the_same(ring):  # SEC-19
    one, two = ring.seal(SECRET, bound_to=ROW), ring.seal(SECRET, bound_to=ROW)

    assert b"sk_sandbox" not in one.blob
    assert one.blob != two.blob


def test_another_row_or_another_merchant_cannot_open_it(ring):  # SEC-19
    merchant, row = uuid4(), uuid4()
    sealed = ring.seal(SECRET, bound_to=row_of(merchant, row))

    for wrong in (row_of(merchant, uuid4()), row_of(uuid4(), row), row_of(row, merchant), b""):
        with pytest.raises(SealBroken):
            ring.open(sealed, bound_to=wrong)


def test_a_wrong_key_under_the_right_id_does_not_open_it(ring):  # SEC-19
    sealed = ring.seal(SECRET, bound_to=ROW)

    with pytest.raises(SealBroken):
        Keyring({"old": NEW}, primary="old").open(sealed, bound_to=ROW)


def test_the_same_key_under_another_id_does_not_open_it():
    both = Keyring({"old": OLD, "copy": OLD}, primary="old")
    sealed = both.seal(SECRET, bound_to=ROW)

    with pytest.raises(SealBroken):
        both.open(Sealed("copy", sealed.blob), bound_to=ROW)


def test_a_key_that_is_not_on_the_ring_does_not_open_it(ring):  # SEC-19
    sealed = ring.seal(SECRET, bound_to=ROW)

    with pytest.raises(SealBroken, match="old"):
        Keyring({"new": NEW}, primary="new").open(sealed, bound_to=ROW)


def test_one_changed_bit_anywhere_does_not_open(ring):
    sealed = ring.seal(SECRET, bound_to=ROW)

    for place in range(len(sealed.blob)):
        changed = bytearray(sealed.blob)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            ring.open(Sealed("old", bytes(changed)), bound_to=ROW)


@pytest.mark.parametrize("length", [0, 5, 12, 27])
def test_a_blob_that_was_cut_does_not_open(ring, length):
    sealed = ring.seal(SECRET, bound_to=ROW)

    with pytest.raises(SealBroken):
        ring.open(Sealed("old", sealed.blob[:length]), bound_to=ROW)


def test_after_a_rotation_the_old_still_opens_and_the_new_key_seals(ring):  # SEC-19
    before = ring.seal(SECRET, bound_to=ROW)
    rotated = Keyring({"old": OLD, "new": NEW}, primary="new")
    after = rotated.seal(SECRET, bound_to=ROW)

    assert rotated.open(before, bound_to=ROW) == rotated.open(after, bound_to=ROW) == SECRET
    assert (before.key_id, after.key_id) == ("old", "new")
    assert rotated.outdated(before)
    assert not rotated.outdated(after)


def test_a_key_that_is_not_32_bytes_is_refused_without_being_shown():
    with pytest.raises(ValueError, match="32 bytes") as refused:
        Keyring({"old": b"hunter2"}, primary="old")

    assert "hunter2" not in str(refused.value)


def test_a_primary_key_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="new"):
        Keyring({"old": OLD}, primary="new")


def test_a_key_ring_does_not_show_its_keys(ring):
    assert "old" in repr(ring)
    assert repr(OLD)[2:20] not in repr(ring)
