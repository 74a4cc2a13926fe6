"""For every error: what happened, whether to send again, what to do instead, and whom to tell.

What happened and its cure are in the catalogue that the service answers from; what is added here
follows from whose fault the error is, so that no error can be forgotten.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from model_service.serving.problems import PROBLEMS, Kind, type_of

Fault = Literal["caller", "service", "load"]
FALLBACK = "Answer without a prediction, as was agreed with product: the decision must not wait."
RETRY = (
    "Yes, up to three times: after Retry-After if it is there, else after 0.2, 0.4 and 0.8 "
    "seconds, each varied at random, so that callers do not come back all at once."
)
ADVICE: dict[Fault, tuple[str, str, str]] = {
    "caller": (
        "No: the same request is refused again.",
        "Correct the request. Until then, answer as without a prediction.",
        "The developers of the calling service: log type, request_id and faults.",
    ),
    "service": ("No: it fails again.", FALLBACK, "On call, with the request_id."),
    "load": (RETRY, FALLBACK, "On call, if it lasts longer than five minutes."),
}
TELL = {
    "rows-rejected": (
        "The developers of the calling service; the owner of the feature's source, "
        "if the value comes from there."
    ),
    "key-required": "The owners of the service: they give out keys.",
    "model-not-ready": "On call, if it lasts longer than a minute: it alarms by itself.",
}


class CatalogueEntry(msgspec.Struct, frozen=True):
    """One error as other teams read it; `type` is what programs tell errors apart by."""

    type: str
    status: int
    what_happened: str
    what_to_do: str
    retry: bool
    may_i_retry: str
    fallback: str
    whom_to_tell: str


def error_catalogue() -> dict[str, CatalogueEntry]:
    """Return every error that the service answers, in the order of the service's own catalogue."""
    return {slug: _entry(slug, kind) for slug, kind in PROBLEMS.items()}


def _entry(slug: str, kind: Kind) -> CatalogueEntry:
    fault: Fault = "load" if kind.retry else "service" if kind.status >= 500 else "caller"
    may_retry, fallback, tell = ADVICE[fault]
    return CatalogueEntry(
        type_of(slug),
        kind.status,
        kind.title,
        kind.cure,
        kind.retry,
        may_retry,
        fallback,
        TELL.get(slug, tell),
    )
