"""What the edge itself refuses, before any verb is asked."""

from __future__ import annotations

from collections.abc import Iterable

from refund_service.errors import RefundServiceError, Unavailable, Unprocessable


class EdgeError(RefundServiceError):
    """A refusal that may need a header of its own."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed, replaced where there are any


class BodyUnreadable(EdgeError):
    code = "body-unreadable"
    status = 400
    title = "The body cannot be read"
    help = "Send one JSON document in UTF-8, without a byte order mark and nested at most 32 deep."


class BodyMalformed(EdgeError, Unprocessable):
    code = "body-malformed"
    title = "The body holds what is not allowed"
    help = (
        "`errors` points at it: a name that stands twice, a number that is not finite, NUL, half a character."
    )


class BodyTooLarge(EdgeError):
    code = "body-too-large"
    status = 413
    title = "The body is too large"
    help = "A body may have 64 KiB (65,536 bytes). Send fewer lines or less metadata."


class RequestUnreadable(EdgeError):
    code = "request-unreadable"
    status = 400
    title = "The request is not HTTP as it is read here"
    help = (
        "Send HTTP/1.1 with one Host, one length of the body and no Upgrade: Java's HttpClient needs "
        "`version(HTTP_1_1)`. The connection was closed and nothing was done."
    )


class HeadTooLarge(EdgeError):
    code = "head-too-large"
    status = 431
    title = "The request line and the headers are too large"
    help = "Together they may have 32 KiB (32,768 bytes). Send fewer or shorter headers."


class RequestTooSlow(EdgeError):
    code = "request-too-slow"
    status = 408
    title = "The request came in too slowly"
    help = "Nothing was done. Send it again, whole and in one go, with the same Idempotency-Key."
    retryable = True


class MediaTypeUnsupported(EdgeError):
    code = "media-type-unsupported"
    status = 415
    title = "The body is not sent as JSON"
    help = "Send `Content-Type: application/json`, in UTF-8 and not compressed."
    headers = {"Accept": "application/json"}  # noqa: RUF012 - never changed


class RequestInvalid(EdgeError, Unprocessable):
    code = "request-invalid"
    title = "The request is not valid"
    help = "`errors` says what is wrong with which member, query parameter or header. Nothing was written."


class RouteNotFound(EdgeError):
    code = "route-not-found"
    status = 404
    title = "There is no such address"
    help = "Compare the path, its case and its slashes with the OpenAPI document under /openapi.json."


class MethodNotAllowed(EdgeError):
    code = "method-not-allowed"
    status = 405
    title = "The address does not take this method"
    help = "`allowed`, like the header Allow, says which methods it takes."

    @classmethod
    def but(cls, methods: Iterable[str]) -> MethodNotAllowed:
        """Refuse, and name the methods that would be taken."""
        allowed = sorted(methods)
        error = cls(f"It takes {', '.join(allowed)}.", allowed=allowed)
        error.headers = {"Allow": ", ".join(allowed)}
        return error


class IdempotencyKeyMissing(EdgeError):
    code = "idempotency-key-missing"
    status = 400
    title = "An idempotency key is needed"
    help = "Send a header Idempotency-Key, new for each new request and the same for each repetition of it."


class IdempotencyKeyInvalid(EdgeError):
    code = "idempotency-key-invalid"
    status = 400
    title = "The idempotency key is not usable"
    help = "Send the header Idempotency-Key once, with 1 to 255 visible ASCII characters."


class Unauthorized(EdgeError):
    code = "unauthorized"
    status = 401
    title = "The request carries no valid key"
    help = "Send `Authorization: Bearer rk_…` with a key that has not been revoked."
    headers = {"WWW-Authenticate": 'Bearer realm="refund-service"'}  # noqa: RUF012 - never changed


class Forbidden(EdgeError):
    code = "forbidden"
    status = 403
    title = "The key may not do this"
    help = "`scope` names what is missing. Ask an administrator for a key with a role that has it."

    @classmethod
    def without(cls, scope: str) -> Forbidden:
        """Refuse for want of a scope."""
        error = cls(f"This needs the scope {scope}.", scope=str(scope))
        error.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
        return error


class RateLimited(EdgeError):
    code = "rate-limited"
    status = 429
    title = "Too many requests"
    help = "Nothing was done. Wait Retry-After seconds, then send the same request again."
    retryable = True
    retry_after = 1


class CursorInvalid(EdgeError):
    code = "cursor-invalid"
    status = 400
    title = "The cursor is not usable here"
    help = "Use `next_cursor` as it was given and with the same filters, or begin again without a cursor."


class InternalError(EdgeError):
    code = "internal-error"
    status = 500
    title = "Something went wrong here"
    help = "Send it again with the same Idempotency-Key; if it stays so, tell the operator the request id."
    retryable = True


class Overloaded(Unavailable):
    code = "overloaded"
    title = "There is no room for more here"
    help = "Nothing was acknowledged. Send the same request with the same Idempotency-Key again."
