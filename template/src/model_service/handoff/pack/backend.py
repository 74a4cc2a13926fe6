"""The page for backend: send, get, process, when it fails, try it against the stub."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from model_service.contract.contract import Contract
from model_service.handoff.bundle import examples_of
from model_service.handoff.error_catalogue import error_catalogue
from model_service.handoff.pack.html import (
    Piece,
    block,
    bullets,
    joined,
    note,
    paragraph,
    piece,
    section,
    subsection,
    table,
)
from model_service.handoff.pack.policies import features_table
from model_service.handoff.semantics import NOT_STATED, semantics_of
from model_service.settings import Settings

LEAD = (
    "Everything that a service needs to ask these models, and to live with their answers. "
    "You can start today: the stub keeps this contract before any model is trained."
)
PROCESS = """\
answer = response.json()
for sent, row in zip(rows, answer["rows"], strict=True):
    if "error" in row:                       # this row only; its neighbours are answered
        without_prediction(sent, row["error"]["faults"])
        continue
    remember(row["prediction_id"], answer["version"])   # to tell later what really happened
    for warning in row["warnings"]:          # answered, but a value was missing or new
        count(warning["feature"], warning["problem"])
    decide(sent, row["value"])"""


def sections_of(settings: Settings, contracts: Sequence[Contract]) -> list[Piece]:
    """Return the sections of the page."""
    return [
        _try_it(settings, contracts),
        _send(contracts),
        _get(contracts),
        _process(),
        _when_it_fails(),
        _promises(settings),
        _integrated(settings),
    ]


def _try_it(settings: Settings, contracts: Sequence[Contract]) -> Piece:
    parts: list[object] = [
        paragraph(
            "The stub is the real service with made-up answers: the same addresses, checks, errors "
            "and limits. Each answer of it carries the header `x-stub: true`; the same row always "
            "gets the same answer. When the real models come, nothing changes but the values."
        ),
        block(
            f"make setup\n.venv/bin/{settings.name} serve --stub --port {settings.server.port}",
            "In a clone of this repository. In the image: `MODEL_SERVICE_SERVER__STUB=true`",
        ),
    ]
    for contract in contracts[:1]:
        body = msgspec.json.encode(examples_of(contract)[0]["request"]["body"]).decode()
        parts.append(
            block(
                f"curl -s http://127.0.0.1:{settings.server.port}"
                f"/v1/models/{contract.name}/predict \\\n"
                "  -H 'content-type: application/json' -H 'x-service-name: your-service' \\\n"
                f"  -d {shlex.quote(body)}",
                "A first answer",
            )
        )
    parts.append(
        paragraph(
            "Say who you are in `x-service-name` (small letters, digits, hyphens): the stub writes "
            "down who called what and which errors they met, and that is the evidence that you "
            "have integrated."
        )
    )
    parts.append(
        block(
            "uvx openapi-python-client generate --path handoff/contract/openapi.json\n"
            "npx openapi-typescript handoff/contract/openapi.json --output models.d.ts",
            "Typed clients: Python, and types for TypeScript",
        )
    )
    return section("Try it", *parts)


def _send(contracts: Sequence[Contract]) -> Piece:
    parts: list[object] = [
        paragraph(
            'One or more rows as JSON, UTF-8. `true` is not 1, `"3"` is not 3, and what is not '
            "known is `null` or left out: never send a 0 or an average in its place, for then "
            "nobody can see that it was missing."
        )
    ]
    for contract in contracts:
        example = examples_of(contract)[0]["request"]
        extra = (
            "Other fields are ignored, with a warning."
            if contract.unknown_fields == "ignore"
            else "A row with any other field is refused."
        )
        parts.append(
            subsection(
                piece(f"`POST {example['path']}`"),
                paragraph(contract.description, f"Contract {contract.contract_version}. {extra}"),
                features_table(contract),
                block(_json(example["body"]), "A request"),
            )
        )
    parts.append(
        paragraph(
            'Beside `rows`, `"entity"` may name whom the rows are about (a customer, an order): '
            "while a new version gets a share of the requests, one entity always meets the same."
        )
    )
    return section("Send", *parts)


def _get(contracts: Sequence[Contract]) -> Piece:
    return section("Get", *(_answer_of(contract) for contract in contracts))


def _answer_of(contract: Contract) -> Piece:
    meaning = semantics_of(contract)
    facts: list[tuple[object, object]] = [("`value`", meaning.meaning)]
    if meaning.unit:
        facts.append(("unit", meaning.unit))
    if meaning.minimum is not None or meaning.maximum is not None:
        facts.append(("range", f"{_shown(meaning.minimum)} to {_shown(meaning.maximum)}"))
    if meaning.classes:
        facts.append(("one of", joined([piece(f"`{name}`") for name in meaning.classes], ", ")))
        facts.append(("`probabilities`", meaning.probabilities))
        stated = ", ".join(f"{name} from {share:g}" for name, share in meaning.thresholds.items())
        facts.append(("thresholds", stated or "none: the most probable class is answered"))
    open_question: list[Piece] = []
    if meaning.decided_by == NOT_STATED:
        open_question = [note("Who decides which probability is enough is not stated yet: ask.")]
    elif meaning.decided_by:
        facts.append(("decided by", meaning.decided_by))
    answer = examples_of(contract)[0]["answer"]["body"]
    return subsection(
        piece(f"{contract.name}: `{meaning.output}`"),
        table(("", ""), facts),
        *open_question,
        block(_json(answer), "An answer; the values are made up"),
    )


def _process() -> Piece:
    return section(
        "Process",
        paragraph("Rows are answered one by one, in the order in which they were sent."),
        block(PROCESS, "Python"),
        bullets(
            [
                (
                    "Log `request_id`, and with each decision `prediction_id` and `version`: with "
                    "them any answer can be explained months later."
                ),
                (
                    "Decide by `value`, not by a cut of your own: thresholds live in the "
                    "contract, where they are reviewed."
                ),
                (
                    "When it is known what really happened, tell it: `POST /v1/ground-truth` with "
                    '`{"ground_truth": [{"prediction_id": "…", "value": …}]}`'
                    ". Without it nobody can say whether the model is still good."
                ),
                "Let programs tell errors apart by `type`, never by their words.",
            ]
        ),
    )


def _when_it_fails() -> Piece:
    rows = [
        (
            joined([piece(f"`{slug}`"), Piece(f"<small>{entry.status}</small>")]),
            joined(
                [piece(entry.what_happened), Piece(f"<small>{piece(entry.what_to_do)}</small>")]
            ),
            "yes, as below" if entry.retry else "no",
            entry.fallback,
            entry.whom_to_tell,
        )
        for slug, entry in error_catalogue().items()
    ]
    retry = next(entry.may_i_retry for entry in error_catalogue().values() if entry.retry)
    return section(
        "When it fails",
        paragraph(
            "Every error is `application/problem+json` with `type`, `title`, `status`, `detail`, "
            "`request_id` and `faults`; each fault points into the body that you sent. A `type` "
            "ends in the name of the first column, and never changes."
        ),
        table(("Error", "What happened", "Send again?", "Meanwhile", "Whom to tell"), rows),
        note(f"Send again? {retry}"),
        paragraph(
            "No answer at all, or no connection: as `model-not-ready`. Agree with product what "
            "happens without a prediction, and try it: take the service away in staging."
        ),
    )


def _promises(settings: Settings) -> Piece:
    limits, slo = settings.limits, settings.slo
    return section(
        "Promises and limits",
        table(
            ("", ""),
            [
                ("answered", f"{slo.availability:.2%} of requests, over 30 days"),
                (
                    "in time",
                    f"{slo.latency_share:.0%} of answers within {slo.latency_milliseconds:g} ms",
                ),
                (
                    "your timeout",
                    (
                        f"{limits.seconds_per_request + 1:g} s; the service gives up "
                        f"after {limits.seconds_per_request:g} s (504)"
                    ),
                ),
                ("rows in a request", f"up to {limits.rows_per_request:,}"),
                ("size of a request", f"up to {limits.body_bytes / 1024**2:g} MiB, also unpacked"),
                (
                    "key",
                    "needed: `Authorization: Bearer KEY`; the owners give it out"
                    if settings.api_keys
                    else "none is needed yet",
                ),
            ],
        ),
    )


def _integrated(settings: Settings) -> Piece:
    contacts, command = settings.contacts, settings.name
    people = [
        ("on call", contacts.on_call),
        ("backend", contacts.backend),
        ("owners", ", ".join(settings.owners)),
    ]
    return section(
        "Done when",
        bullets(
            [
                (
                    "your tests pass against the stub, clean and dirty rows, and each error that "
                    "you handle was met once;"
                ),
                (
                    f"what you rely on is written into `handoff/consumers.yaml`, and `{command} "
                    "handoff check CON-10` holds;"
                ),
                f"this exact contract is signed: `{command} handoff sign backend CON-3`.",
            ],
            "ol",
        ),
        table(("", "Whom to ask"), [(name, who or "not named yet") for name, who in people]),
    )


def _shown(limit: float | None) -> str:
    return "open" if limit is None else f"{limit:g}"


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
