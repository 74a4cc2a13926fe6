"""The page for product: what the models can and cannot do, how good they are, who decides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from model_service.contract.contract import Contract
from model_service.handoff.pack.html import (
    Piece,
    bullets,
    joined,
    note,
    paragraph,
    piece,
    section,
    subsection,
    table,
)
from model_service.handoff.semantics import NOT_STATED, semantics_of
from model_service.model_settings import read_model_settings
from model_service.registry.manifest import Manifest
from model_service.repository import Repository
from model_service.settings import Settings

LEAD = "What these models can do and what they cannot, how good they are, and what you decide."

IN_WORDS = {
    "accuracy": "share of answers that are right",
    "macro_f1": "hits and false alarms in one number, each class counting alike",
    "log_loss": "how wrong the probabilities are: less is better",
    "roc_auc": "how well it puts one class before the other: 0.5 is chance, 1 is perfect",
    "mae": "average error, in the unit of the answer",
    "rmse": "the same, large errors counting more",
    "r2": "share of the differences that it explains",
}
"""Metrics in words for people who decide by them; another one keeps its name."""


def sections_of(
    repository: Repository,
    settings: Settings,
    contracts: Sequence[Contract],
    champions: Mapping[str, Manifest],
) -> list[Piece]:
    """Return the sections of the page; `champions` has the manifest of each that answers."""
    return [
        *(_model(repository, each, champions.get(each.name)) for each in contracts),
        _you_decide(settings, contracts),
        _contacts(settings),
    ]


def _model(repository: Repository, contract: Contract, champion: Manifest | None) -> Piece:
    path = repository.model_folder(contract.name) / "card.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    meaning = semantics_of(contract)
    inputs = ", ".join(feature.name.replace("_", " ") for feature in contract.features)
    return section(
        contract.name.replace("_", " ").capitalize(),
        paragraph(contract.description),
        paragraph(f"It answers: {meaning.meaning}"),
        *(
            subsection(title, *(paragraph(text) for text in words.split("\n\n")))
            for title, words in _parts_of(card)
        ),
        *([] if card.strip() else [note("Its card is not written: models/…/card.md.")]),
        subsection("What it looks at", paragraph(f"{inputs[:1].upper()}{inputs[1:]}.")),
        subsection("How good it is", *_quality(champion)),
        subsection("How it is watched", bullets(_watching(repository, contract.name))),
    )


def _parts_of(card: str) -> list[tuple[str, str]]:
    """Return the sections of a card, their hard line breaks joined."""
    found = re.findall(r"^## (.+?)\n+(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    return [(title, re.sub(r"(?<!\n)\n(?!\n)", " ", words.strip())) for title, words in found]


def _quality(champion: Manifest | None) -> list[Piece]:
    if champion is None:
        return [note("No version answers yet: the numbers come with the first one.")]
    rows = [
        (_measured(name), f"{value:.4g}", _baseline(champion, name), _demand(champion, name))
        for name, value in champion.metrics.items()
    ]
    held_out = champion.rows.get("held_out")
    return [
        table(("Measured", f"Version {champion.version}", "Simplest guess", "Demanded"), rows),
        paragraph(
            f"On {held_out} cases that were kept away from training. "
            if held_out
            else "On cases that were kept away from training. ",
            "The simplest guess answers the same for everybody.",
        ),
    ]


def _measured(metric: str) -> Piece:
    words = IN_WORDS.get(metric)
    small = Piece(f"<small>{piece(words)}</small>" if words else "")
    return joined([piece(metric.replace("_", " ")), small])


def _baseline(champion: Manifest, metric: str) -> str:
    return f"{champion.baseline[metric]:.4g}" if metric in champion.baseline else "-"


def _demand(champion: Manifest, metric: str) -> str:
    return next((gate.demand for gate in champion.gates if gate.metric == metric), "-")


def _watching(repository: Repository, name: str) -> list[str]:
    stated = read_model_settings(repository, name)
    truth = stated.ground_truth
    return [
        f"What really happened is expected within {truth.within_days} days; from then on its "
        "quality is measured, not estimated."
        if truth.expected
        else "What really happened is never learned: its quality can only be estimated.",
        f"A version older than {stated.max_age_days} days raises an alarm.",
        f"Trained again: {stated.retrain.trigger or 'not decided yet'}"
        + (f", by {stated.retrain.owner}." if stated.retrain.owner else "; by whom is not said."),
    ]


def _you_decide(settings: Settings, contracts: Sequence[Contract]) -> Piece:
    open_questions = [
        f"{contract.name}: which probability is enough to act, and who may change it."
        for contract in contracts
        if semantics_of(contract).decided_by == NOT_STATED
    ]
    slo = settings.slo
    return section(
        "What you decide",
        bullets(
            [
                (
                    "What happens without a prediction: while the service is down, or for a row "
                    "that it refuses."
                ),
                (
                    f"Whether {slo.availability:.2%} of requests answered and "
                    f"{slo.latency_share:.0%} of them within {slo.latency_milliseconds:g} ms is "
                    "enough."
                ),
                (
                    "Whether the use and the cost of a wrong answer above are accepted: "
                    f"`{settings.name} handoff sign product MOD-6`."
                ),
            ]
        ),
        *([note("Not decided yet."), bullets(open_questions)] if open_questions else []),
        paragraph(
            f"A new version answers only when somebody promotes it. One that would decide "
            f"otherwise for more than {settings.promotion.flipped_decisions:.0%} of the cases that "
            "are compared is refused until a person overrules that."
        ),
    )


def _contacts(settings: Settings) -> Piece:
    contacts = settings.contacts
    people = [
        ("product", contacts.product),
        ("data science", ", ".join((settings.team, *settings.owners)).strip(", ")),
        ("launch", str(settings.launch_date or "")),
    ]
    return section(
        "Whom to ask",
        table(("", ""), [(name, piece(who or "not named yet")) for name, who in people]),
    )
