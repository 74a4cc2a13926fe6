"""Errors as every layer of the service answers them: RFC 9457 `application/problem+json`.

`PROBLEMS` is the whole catalogue. The documentation page shows it, and the `type` of each answer
links into that page.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from model_service.contract.rows import ReadRows

MEDIA_TYPE = b"application/problem+json"


class Kind(msgspec.Struct, frozen=True):
    """One type of error: its status, its name for people, and what a caller should do."""

    status: int
    title: str
    cure: str
    retry: bool = False


PROBLEMS: dict[str, Kind] = {
    "malformed-http": Kind(
        400, "Malformed HTTP request", "Send the request with an ordinary HTTP/1.1 client."
    ),
    "invalid-json": Kind(
        400, "The body is not JSON", "Send UTF-8 JSON. NaN and Infinity are not JSON: send null."
    ),
    "invalid-request": Kind(
        400, "The body is not what this address takes", 'Send {"rows": [{feature: value, …}]}.'
    ),
    "key-required": Kind(
        401,
        "An API key is needed",
        "Send the header Authorization: Bearer KEY (or X-API-Key: KEY). The owners of the service "
        "give out keys.",
    ),
    "not-found": Kind(404, "No such address", "Every address is listed in /openapi.json."),
    "model-not-found": Kind(404, "No such model", "GET /v1/models lists the models."),
    "version-not-found": Kind(
        404,
        "No such version or alias",
        "GET /v1/models/{model} lists what is served. A version is served when traffic.yaml "
        "names it as champion or pins it.",
    ),
    "method-not-allowed": Kind(
        405, "Method not allowed", "Use one of the methods of the Allow header."
    ),
    "request-timeout": Kind(
        408, "The body arrived too slowly", "Send the whole body at once, or fewer rows.", True
    ),
    "body-too-large": Kind(413, "The body is too large", "Send the rows in several requests."),
    "too-many-rows": Kind(413, "Too many rows", "Send the rows in several requests."),
    "unsupported-media-type": Kind(
        415, "Unsupported media type", "Send Content-Type: application/json, in UTF-8."
    ),
    "rows-rejected": Kind(
        422,
        "Rows rejected by the contract",
        "Each fault points at a value and says what would be right. Correct it and send again; "
        "sending the same row again changes nothing.",
    ),
    "queue-full": Kind(
        429, "Too many rows are waiting", "Wait as long as Retry-After says, then send again.", True
    ),
    "internal-error": Kind(
        500, "Internal error", "Report the request id to the owners of the service."
    ),
    "model-failed": Kind(
        500,
        "The model gave no answer",
        "The rows are right by the contract, but the model raised an error or answered something "
        "that is no number. Report the request id to the owners of the model.",
    ),
    "model-not-ready": Kind(
        503,
        "The model cannot answer now",
        "GET /v1/models/{model} says why. While it is loading, send again after a second.",
        True,
    ),
    "log-unavailable": Kind(
        503,
        "The prediction log cannot be reached",
        "Nothing of the request was kept. Send it again after as long as Retry-After says.",
        True,
    ),
    "deadline-exceeded": Kind(
        504, "The answer took too long", "Send fewer rows at once, or later.", True
    ),
}

_SLUG_OF_STATUS = {404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}


class RequestFault(msgspec.Struct, frozen=True):
    """One fault. `pointer` is a JSON pointer from the root of the request's body."""

    pointer: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True):
    """The body of an error."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    faults: Sequence[RequestFault] = ()


class ProblemError(Exception):
    """A request that is answered by a problem.

    `slug` is a key of `PROBLEMS`; `detail` says what was wrong this time and what to do next.
    `read` holds the rows where they could be read and none has an answer.
    """

    read: ReadRows | None = None

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        faults: Sequence[RequestFault] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        kind = PROBLEMS[slug]
        super().__init__(detail or kind.title)
        self.slug = slug
        self.status = kind.status
        self.detail = detail or kind.cure
        self.faults = faults
        self.headers = headers

    def encode(self, request_id: str) -> bytes:
        """Return the body of the answer, and forget where it was raised.

        Frames that hold the request would be held by it, and it by them: large bodies would stay
        in memory until the collector of cycles comes.
        """
        self.__traceback__ = self.__context__ = None
        title = PROBLEMS[self.slug].title
        return msgspec.json.encode(
            Problem(type_of(self.slug), title, self.status, self.detail, request_id, self.faults)
        )


def type_of(slug: str) -> str:
    """Return the URI that tells callers the type of an error. It never changes."""
    return f"/docs#problem-{slug}"


def problem_of_status(status: int, detail: str, headers: dict[str, str]) -> ProblemError:
    """Return the problem for a status that the web framework wanted to answer by itself."""
    slug = _SLUG_OF_STATUS.get(status, "internal-error" if status >= 500 else "invalid-request")
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return ProblemError(slug, detail, headers=encoded)
