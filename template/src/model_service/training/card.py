"""The model card of a version: the team's words with the numbers filled in."""

from __future__ import annotations

from collections.abc import Sequence

from model_service.contract.contract import Contract, Feature, Policy
from model_service.drift.blind_spots import BlindSpots, SmallestFound
from model_service.registry.manifest import Manifest


def card_of(
    contract: Contract, manifest: Manifest, words: str, golden: int, spots: BlindSpots
) -> str:
    """Return the card in Markdown."""
    output = contract.output
    unit = f" in {output.unit}" if output.unit else ""
    parts = [
        f"# {contract.name}",
        contract.description,
        f"**Answers** {output.name} ({output.type}{unit}): {output.meaning}",
        words.strip(),
        "## How good it is",
        _held_out(contract, manifest),
        manifest.metrics
        and _table(
            ("metric", "this version", "baseline"),
            [
                (name, f"{value:.4g}", f"{manifest.baseline[name]:.4g}")
                for name, value in manifest.metrics.items()
            ],
        ),
        "## Gates",
        _table(
            ("metric", "demanded", "measured", "met"),
            [(g.metric, g.demand, f"{g.measured:.4g}", "yes") for g in manifest.gates],
        ),
        "## Features",
        _table(
            ("feature", "type", "when missing", "when unknown or out of range", "source"),
            [_feature_line(feature) for feature in contract.features],
        ),
        "## What watching finds within a day",
        _watching(spots),
        _table(
            ("feature", "smallest change that is found", "never found"),
            [_spots_line(name, found) for name, found in spots.features.items()],
        ),
        "## Where it comes from",
        _table(("", ""), _origin(manifest, golden)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _held_out(contract: Contract, manifest: Manifest) -> str:
    always = "the most frequent class" if contract.output.type == "class" else "the mean"
    rows = manifest.rows
    if not manifest.metrics:
        return f"Not known: the {rows['held_out']} rows that it was imported with had no truth."
    trained = f"trained on {rows['training']}" if "training" in rows else "fitted elsewhere"
    return f"On {rows['held_out']} held-out rows; {trained}. The baseline always answers {always}."


def _watching(spots: BlindSpots) -> str:
    seen = spots.false_alarms
    blind = ", ".join(spots.blind)
    return (
        f"At {spots.rows_per_day:,} rows a day, with a budget of {seen.budget:g} false alarms a "
        f"month. Faults were put into held-out rows to measure it; unchanged and in their order, "
        f"they raised {seen.alarms} alarms in {seen.windows} windows of {seen.rows} rows."
        + (f" **Blind for: {blind}.**" if blind else "")
    )


def _spots_line(name: str, found: Sequence[SmallestFound]) -> tuple[str, ...]:
    seen = [f"{each.fault} {_size(each)}" for each in found if each.size is not None]
    never = [each.fault for each in found if each.size is None]
    return name, ", ".join(seen), ", ".join(never)


def _size(found: SmallestFound) -> str:
    if found.unit == "share of rows":
        return f"{found.size:.1%}"
    return f"{found.size:g} {'SD' if found.unit == 'standard deviations' else found.unit}"


def _feature_line(feature: Feature) -> tuple[str, ...]:
    unit = f", {feature.unit}" if feature.unit else ""
    other = ""
    if feature.type == "category":
        other = _policy(feature.on_unknown)
    elif feature.minimum is not None or feature.maximum is not None:
        other = _policy(feature.on_out_of_range)
    source = f"{feature.source.system} ({feature.source.owner})" if feature.source else ""
    return feature.name, feature.type + unit, _policy(feature.on_missing), other, source


def _policy(policy: Policy) -> str:
    value = "" if policy.value is None else f" {policy.value}"
    return policy.action.replace("_", " ") + value


def _origin(manifest: Manifest, golden: int) -> list[tuple[str, ...]]:
    parity = "the original itself"
    if manifest.parity is not None:
        share = manifest.parity.largest_difference
        parity = (
            f"agrees with the original on {manifest.parity.rows} rows: the largest "
            f"difference is {share:.1%} of what is tolerated ({manifest.parity.tolerance:g})"
        )
    commit = manifest.git.commit or "not in git"
    dirty = ", with changes that are in no commit" if manifest.git.dirty else ""
    libraries = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    return [
        ("trained", manifest.created_at),
        ("format", f"{manifest.format}, {parity}"),
        ("golden predictions", str(golden)),
        *([("imported from", manifest.imported.name)] if manifest.imported else []),
        ("commit", commit + dirty),
        ("data", f"sha256 {manifest.data_sha256[:16]}…, seed {manifest.seed}"),
        ("libraries", libraries),
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
