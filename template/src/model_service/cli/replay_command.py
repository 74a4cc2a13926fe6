"""`replay`: a past prediction once more, from its id: what came in, what was done to it, why."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from model_service.cli.compare_command import loaded as load
from model_service.cli.ground_truth_commands import open_log
from model_service.cli.terminal import (
    CANNOT_RUN,
    NOT_IN_ORDER,
    literal,
    say,
    say_json,
    say_table,
    state,
    stop,
)
from model_service.cli.version_commands import AsJson

if TYPE_CHECKING:
    from model_service.prediction_log.records import LoggedRow
    from model_service.registry.loaded_version import LoadedVersion
    from model_service.repository import Repository


class ReplayedFeature(msgspec.Struct):
    """One feature: as the caller sent it, what a policy did, and as the model got it."""

    feature: str
    received: Any
    used: Any
    warnings: tuple[str, ...] = ()
    unavailable: str | None = None


class Replay(msgspec.Struct):
    """A prediction as it was logged and, where its features are known, as it is answered now."""

    prediction: LoggedRow
    at: str
    features: list[ReplayedFeature]
    inputs: dict[str, Any] | None = None
    value: Any = None
    probabilities: dict[str, float] | None = None
    differences: tuple[str, ...] = ()
    is_same: bool | None = None
    ground_truth: Any = None


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("replay", rich_help_panel="Watching")(replay)


def replay(
    context: typer.Context,
    prediction_id: Annotated[str, typer.Argument(help="The id that came with the answer.")],
    as_json: AsJson = False,
) -> None:
    """Explain a past prediction, and answer its row again with the exact version.

    Exit code 1: it is answered differently now. 2: it cannot be answered again.
    """
    from model_service.settings import read_settings

    repository: Repository = context.obj
    settings = read_settings(repository, os.environ)
    store = open_log(repository, settings)
    row = store.find(prediction_id)
    if row is None:
        stop(
            f"No prediction {prediction_id} is in the prediction log. It holds the last "
            f"{settings.prediction_log.retention_days} days (prediction_log.retention_days)."
        )
    truth = store.truth_of(prediction_id)
    store.close()
    version = load(repository, row.model, row.version)
    replayed = replayed_with(version, row, truth)
    if as_json:
        say_json(replayed)
    else:
        _show(replayed, version)
    raise SystemExit({True: 0, False: NOT_IN_ORDER, None: CANNOT_RUN}[replayed.is_same])


def replayed_with(version: LoadedVersion, row: LoggedRow, truth: Any = None) -> Replay:
    """Answer a logged row again with its version, as far as its features are known."""
    from model_service.registry.golden import GoldenPrediction, differences
    from model_service.registry.loaded_version import ModelError, golden_of

    features = [_feature(version, row, name) for name in version.contract.feature_names]
    at = dt.datetime.fromtimestamp(row.at, dt.UTC).isoformat(timespec="milliseconds")
    replayed = Replay(row, at, features, ground_truth=truth)
    if row.received is None or any(feature.unavailable for feature in features):
        return replayed
    read = version.reader.read_rows([row.received])
    if read.faults:
        replayed.differences = tuple(f"refused: {fault.message}" for fault in read.faults[0])
    else:
        try:
            columns = version.features(read.values)
            [now] = golden_of(version, read, [row.received])
        except ModelError as error:
            replayed.differences = (f"no answer: {error}",)
        else:
            replayed.inputs = {name: column[:1].tolist()[0] for name, column in columns.items()}
            replayed.value, replayed.probabilities = now.value, now.probabilities
            ignored = tuple(one for one in row.warnings if one[1] == "unknown_field")
            now = msgspec.structs.replace(now, warnings=(*now.warnings, *ignored))
            was = GoldenPrediction(row.received, row.value, row.probabilities, row.warnings)
            replayed.differences = (
                *_used_differently(version, read.values[0], row.used or {}),
                *differences(was, now),
            )
    replayed.is_same = not replayed.differences
    return replayed


def _feature(version: LoadedVersion, row: LoggedRow, name: str) -> ReplayedFeature:
    used, received = row.used or {}, row.received or {}
    acted = tuple(f"{problem}: {action}" for one, problem, action in row.warnings if one == name)
    unavailable = None
    if name not in used:
        unavailable = "not stored"
    elif version.contract.feature(name).sensitive and used[name] is not None:
        unavailable = "hashed"
    return ReplayedFeature(name, received.get(name), used.get(name), acted, unavailable)


def _used_differently(
    version: LoadedVersion, values: tuple[Any, ...], used: Mapping[str, Any]
) -> list[str]:
    names = version.contract.feature_names
    now = msgspec.json.decode(msgspec.json.encode(dict(zip(names, values, strict=True))))
    return [
        f"{name} was used as {used[name]!r} and is used as {now[name]!r}"
        for name in names
        if used[name] != now[name]
    ]


def _show(replayed: Replay, version: LoadedVersion) -> None:
    row = replayed.prediction
    asked = f"as {row.alias}" if row.alias else "by its number"
    say(f"[bold]{literal(row.prediction_id)}[/]: {row.model} version {row.version}, {asked}")
    say(f"  answered {replayed.at} in {row.seconds * 1000:.1f} ms, request {row.request_id}")
    say_table(
        ("feature", "as sent", "what was wrong: what was done", "as used"),
        [
            (
                literal(one.feature),
                _shown(one.received, one),
                literal("\n".join(one.warnings)),
                _shown(one.used, one),
            )
            for one in replayed.features
        ],
    )
    if replayed.inputs is not None:
        say_table(
            ("input of the model", "value"),
            [(literal(name), _number(value)) for name, value in replayed.inputs.items()],
        )
    name = version.contract.output.name
    now = replayed.value is not None
    say_table(
        (literal(name), "then", *(("now",) if now else ())),
        [
            ("value", _number(row.value), *((_number(replayed.value),) if now else ())),
            *(
                (literal(label), _number(share), *_now(replayed, label))
                for label, share in (row.probabilities or {}).items()
            ),
        ],
    )
    if replayed.ground_truth is not None:
        say(f"  what really happened: {_number(replayed.ground_truth)}")
    _say_verdict(replayed)


def _say_verdict(replayed: Replay) -> None:
    if replayed.is_same is None:
        hidden = {one.feature: one.unavailable for one in replayed.features if one.unavailable}
        listed = literal(", ".join(f"{name} ({why})" for name, why in hidden.items()))
        say(f"  {state(None)} It cannot be answered again: of its row the log has no {listed}.")
        say("    See prediction_log.store_features of service.yaml, and sensitive in the contract.")
    elif replayed.is_same:
        say(f"  {state(True)} It is answered the same today.")
    else:
        say(f"  {state(False)} It is answered differently today:")
        for difference in replayed.differences:
            say(f"    {literal(difference)}")


def _now(replayed: Replay, label: str) -> tuple[str, ...]:
    if replayed.probabilities is None:
        return ()
    return (_number(replayed.probabilities.get(label)),)


def _shown(value: Any, feature: ReplayedFeature) -> str:
    if feature.unavailable:
        return f"[dim]{feature.unavailable}[/]"
    return "[dim]missing[/]" if value is None else _number(value)


def _number(value: Any) -> str:
    return literal(f"{value:.6g}" if isinstance(value, float) else value)
