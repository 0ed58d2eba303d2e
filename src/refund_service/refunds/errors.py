"""Why a refund cannot be asked for, stopped or tried again."""

from __future__ import annotations

from refund_service.errors import Conflict, NotFound, RefundServiceError, Unprocessable


class RefundNotFound(NotFound):
    code = "refund-not-found"
    title = "No such refund"
    help = "Check the id and the key's merchant and mode."


class AmountExceedsAvailable(Unprocessable):
    code = "amount-exceeds-available"
    title = "More is asked than is available of the payment"
    help = "Ask for at most `available`. What is held by open refunds may come back if they fail."


class CurrencyDiffers(Unprocessable):
    code = "currency-differs"
    title = "The payment was captured in another currency"
    help = "Money goes back in the currency it came in; leave `currency` out or send the payment's."


class RefundRefused(Unprocessable):
    code = "refund-refused"
    title = "The merchant's policy refuses it"
    help = "`rule` and `explanation` say why; GET /v1/decisions/{id} shows every rule that was tried."

    replayed: bool = False


class AvailableChanged(RefundServiceError):
    code = "available-changed"
    status = 412
    title = "Another amount is available than was expected"
    help = "Read the payment again and decide anew."


class RefundNotInStatus(Conflict):
    code = "refund-not-in-status"
    title = "The refund's status does not allow this"
    help = "`refund_status` is where it stands, `allowed_from` where this is possible."


class RefundUnclear(Conflict):
    code = "refund-unclear"
    title = "The gateway works on what it had refused"
    help = "Wait until `attention` is gone: the refund succeeds by itself, or can be tried again."


class NothingAvailable(Unprocessable):
    code = "nothing-available"
    title = "Nothing of the payment is left to give back"
    help = "`held`, `refunded` and `disputed` say where it is."


class NotReplaceable(Unprocessable):
    code = "refund-not-replaceable"
    title = "Only a reversed refund of the same payment can be replaced"
    help = "A failed refund is tried again with `retry`; a reversed one is replaced by a new one."
