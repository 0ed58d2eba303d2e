"""Why a payment cannot be registered, found or refunded."""

from __future__ import annotations

from refund_service.errors import Conflict, NotFound, Unprocessable


class PaymentNotFound(NotFound):
    code = "payment-not-found"
    title = "No such payment"
    help = "Register the payment with POST /v1/payments, or send it inline as `payment`."


class PaymentExists(Conflict):
    code = "payment-exists"
    title = "This gateway payment is registered with other values"
    help = "`registered` and `asked` show where they differ. A capture is registered once and never changed."


class OrderExists(Conflict):
    code = "order-exists"
    title = "This order is registered with other values"
    help = "`registered` and `asked` show where they differ. Lines are given once; later facts go to PATCH."


class PaymentAmbiguous(Conflict):
    code = "payment-ambiguous"
    title = "Several payments could be refunded"
    help = "Name one of `payments` as `payment_id`."


class PaymentNotCaptured(Conflict):
    code = "payment-not-captured"
    title = "The payment is not captured yet"
    help = "Register what has come in, once it has. What is only authorised is voided at the gateway."


class PaymentContradiction(Unprocessable):
    code = "payment-contradictory"
    title = "The payment contradicts itself"
    help = "More cannot have been given back than was captured."


class GatewayAccountUnknown(Unprocessable):
    code = "gateway-account-unknown"
    title = "No such gateway account"
    help = "GET /v1/me lists the gateway accounts of this merchant."


class GatewayAccountNeeded(Unprocessable):
    code = "gateway-account-needed"
    title = "Which gateway account?"
    help = "This merchant has several; name one of `gateway_accounts` as `gateway_account`."


class ReferenceExists(Conflict):
    code = "reference-exists"
    title = "The reference is taken"
    help = "A reference is unique for ever per merchant and kind; the answer names what has it."
