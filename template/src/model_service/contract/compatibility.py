"""What a new contract changes for those who call the model by the old one.

Requests may widen and answers may not: whoever was answered before is answered now, and finds
nothing in an answer that could not have been there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from model_service.contract.contract import Contract, Feature, Output, Policy


class Change(msgspec.Struct, frozen=True):
    """One difference. `field` is its path in the contract, such as `features.island`."""

    field: str
    text: str
    breaks: bool = True

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


def changes(old: Contract, new: Contract) -> list[Change]:
    """Return what callers may notice, in the order of the new contract."""
    return [*_request_changes(old, new), *_answer_changes(old.output, new.output)]


def breaking_changes(old: Contract, new: Contract) -> list[Change]:
    """Return the changes by which a caller of the old contract may be refused or misled."""
    return [change for change in changes(old, new) if change.breaks]


def raises_major(old: Contract, new: Contract) -> bool:
    """Return whether the new contract's version says that it may break callers."""
    return _major(new) > _major(old)


def _major(contract: Contract) -> int:
    return int(contract.contract_version.partition(".")[0])


def _request_changes(old: Contract, new: Contract) -> Iterator[Change]:
    before = {feature.name: feature for feature in old.features}
    for feature in new.features:
        where = f"features.{feature.name}"
        if feature.name in before:
            yield from _feature_changes(where, before[feature.name], feature)
        elif feature.on_missing.action == "reject":
            yield Change(where, "is new and may not be missing; callers do not send it.")
        else:
            yield Change(where, f"is new; without it, {feature.on_missing.action}.", breaks=False)
    for name in (name for name in before if name not in new.feature_names):
        if new.unknown_fields == "reject":
            yield Change(f"features.{name}", "is gone, and callers that still send it are refused.")
        else:
            yield Change(f"features.{name}", "is gone; it is ignored if sent.", breaks=False)
    if (old.unknown_fields, new.unknown_fields) == ("ignore", "reject"):
        yield Change("unknown_fields", "were ignored and are refused now.")
    elif old.unknown_fields != new.unknown_fields:
        yield Change("unknown_fields", "were refused and are ignored now.", breaks=False)


def _feature_changes(where: str, old: Feature, new: Feature) -> Iterator[Change]:
    if old.type != new.type:
        widens = (old.type, new.type) == ("integer", "number")
        yield Change(f"{where}.type", f"was {old.type} and is {new.type}.", breaks=not widens)
        if not widens:
            return
    if old.unit != new.unit:
        yield Change(f"{where}.unit", f"was {old.unit} and is {new.unit}: numbers mean otherwise.")
    if old.length != new.length:
        yield Change(f"{where}.length", f"was {old.length} and is {new.length}.")
    if old.on_missing.action != "reject" and new.on_missing.action == "reject":
        yield Change(f"{where}.on_missing", "could be missing and may not be any more.")
    else:
        yield from _policy_change(f"{where}.on_missing", old.on_missing, new.on_missing)
    yield from _category_changes(where, old, new)
    yield from _range_changes(where, old, new)
    if new.max_length is not None and (old.max_length is None or old.max_length > new.max_length):
        yield Change(f"{where}.max_length", f"is {new.max_length} and was {old.max_length}.")
    elif new.max_length != old.max_length:
        text = f"was {old.max_length} and is {new.max_length or 'open'}."
        yield Change(f"{where}.max_length", text, breaks=False)
    for field in ("description", "source", "sensitive"):
        if getattr(old, field) != getattr(new, field):
            yield Change(f"{where}.{field}", "is said otherwise.", breaks=False)


def _policy_change(where: str, old: Policy, new: Policy) -> Iterator[Change]:
    if old != new:
        yield Change(where, f"was {_policy(old)} and is {_policy(new)}.", breaks=False)


def _policy(policy: Policy) -> str:
    return policy.action if policy.value is None else f"{policy.action} {policy.value}"


def _category_changes(where: str, old: Feature, new: Feature) -> Iterator[Change]:
    if new.type != "category":
        return
    gone = [name for name in old.categories if name not in new.categories]
    added = [name for name in new.categories if name not in old.categories]
    refused = new.on_unknown.action == "reject"
    if refused and old.on_unknown.action != "reject":
        yield Change(f"{where}.on_unknown", "unknown categories were answered and are refused now.")
    else:
        yield from _policy_change(f"{where}.on_unknown", old.on_unknown, new.on_unknown)
    if gone:
        yield Change(f"{where}.categories", f"no longer: {', '.join(gone)}.", breaks=refused)
    if added:
        yield Change(f"{where}.categories", f"new: {', '.join(added)}.", breaks=False)


def _range_changes(where: str, old: Feature, new: Feature) -> Iterator[Change]:
    limited = new.minimum is not None or new.maximum is not None
    if limited and new.on_out_of_range.action == "reject" != old.on_out_of_range.action:
        yield Change(f"{where}.on_out_of_range", "was answered and is refused now.")
        return
    if limited:
        yield from _policy_change(
            f"{where}.on_out_of_range", old.on_out_of_range, new.on_out_of_range
        )
    refused = new.on_out_of_range.action == "reject"
    for limit, before, now in (
        ("minimum", old.minimum, new.minimum),
        ("maximum", old.maximum, new.maximum),
    ):
        if before != now:
            narrower = _is_narrower(limit, before, now)
            text = f"was {_shown(before)} and is {_shown(now)}."
            yield Change(f"{where}.{limit}", text, breaks=refused and narrower)


def _answer_changes(old: Output, new: Output) -> Iterator[Change]:
    for field in ("name", "type", "unit", "length"):
        before, now = getattr(old, field), getattr(new, field)
        if before != now:
            yield Change(f"output.{field}", f"was {before} and is {now}.")
    gone = [name for name in old.classes if name not in new.classes]
    added = [name for name in new.classes if name not in old.classes]
    if gone:
        yield Change("output.classes", f"never again: {', '.join(gone)}.")
    if added:
        yield Change("output.classes", f"may be answered now: {', '.join(added)}.")
    if not gone and not added and old.classes != new.classes:
        yield Change("output.classes", "stand in another order, and tensors of probabilities too.")
    for limit, before, now in (
        ("minimum", old.minimum, new.minimum),
        ("maximum", old.maximum, new.maximum),
    ):
        if before != now:
            wider = not _is_narrower(limit, before, now)
            text = f"was {_shown(before)} and is {_shown(now)}."
            yield Change(f"output.{limit}", text, breaks=wider)
    if old.calibrated and not new.calibrated:
        yield Change("output.calibrated", "probabilities were calibrated and are not any more.")
    if old.thresholds != new.thresholds:
        yield Change("output.thresholds", "classes are chosen otherwise.", breaks=False)
    if old.decided_by != new.decided_by:
        text = f"was {old.decided_by} and is {new.decided_by}."
        yield Change("output.decided_by", text, breaks=False)
    if new.calibrated and not old.calibrated:
        yield Change("output.calibrated", "probabilities are calibrated now.", breaks=False)
    if old.meaning != new.meaning:
        yield Change("output.meaning", "is said in other words.", breaks=False)


def _is_narrower(limit: str, before: Any, now: Any) -> bool:
    """Return whether a limit that was changed leaves out what it did not leave out before."""
    if now is None:
        return False
    if before is None:
        return True
    return bool(now > before if limit == "minimum" else now < before)


def _shown(limit: Any) -> str:
    return "open" if limit is None else f"{limit:g}" if isinstance(limit, float) else str(limit)
