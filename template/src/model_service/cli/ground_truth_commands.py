"""`ground-truth import`: what really happened, from a file."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_service.cli.terminal import NOT_IN_ORDER, literal, say, say_json, say_table, stop
from model_service.cli.version_commands import AsJson, known_model

if TYPE_CHECKING:
    import pandas as pd

    from model_service.contract.contract import Contract
    from model_service.prediction_log.ground_truth import KeptTruth
    from model_service.prediction_log.store import PredictionStore
    from model_service.repository import Repository
    from model_service.settings import Settings

ENTRIES_AT_ONCE = 5_000
FAULTS_SHOWN = 5
commands = typer.Typer(no_args_is_help=True, help="Tell what really happened.")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    app.add_typer(commands, name="ground-truth", rich_help_panel="Watching")


@commands.callback()
def _group() -> None:
    """Tell what really happened."""


@commands.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV or Parquet.", exists=True)],
    model: Annotated[
        str | None,
        typer.Option(help="The model; needed where rows are told by their key features."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read what really happened from a table: a row for each prediction.

    Its columns: value, and prediction_id or the features that models/NAME/model.yaml names as
    ground_truth.key; at, if it did not happen now.
    """
    from model_service.contract.inference import read_table
    from model_service.model_settings import read_model_settings

    repository: Repository = context.obj
    if model is not None:
        known_model(repository, model)
    contracts = _contracts(repository)
    keys = {name: read_model_settings(repository, name).ground_truth.key for name in contracts}
    table = read_table(file)
    if model is None or "prediction_id" in table.columns:
        entries = _entries_by_id(table, model)
    else:
        entries = _entries_by_key(table, contracts[model], keys[model])
    kept = _keep(repository, entries, contracts, keys)
    counted: Counter[str] = Counter(one.result for one in kept)
    if as_json:
        say_json({**counted, "rows": kept})
    else:
        _show(file, kept, counted)
    if counted["refused"]:
        raise SystemExit(NOT_IN_ORDER)


def open_log(repository: Repository, settings: Settings) -> PredictionStore:
    """Return the prediction log that the settings name; end the command if there is none."""
    from model_service.prediction_log.store import open_store

    place = settings.stores.prediction_log
    if not place:
        stop(
            "This service keeps no prediction log: stores.prediction_log of service.yaml is empty."
        )
    return open_store(place, repository.root)


def _entries_by_id(table: pd.DataFrame, model: str | None) -> list[dict[str, Any]]:
    _check_columns(table, ["prediction_id"])
    named = {"model": model} if model else {}
    ids = [str(one) for one in table["prediction_id"]]
    return [
        {"prediction_id": one, **named, **told} for one, told in zip(ids, _told(table), strict=True)
    ]


def _entries_by_key(
    table: pd.DataFrame, contract: Contract, key: Sequence[str]
) -> list[dict[str, Any]]:
    from model_service.contract.table import rows_of

    if not key:
        stop(
            f"Rows of {contract.name} are told by prediction_id, or name the features that "
            f"identify them in ground_truth.key of models/{contract.name}/model.yaml."
        )
    _check_columns(table, key)
    keys = rows_of(table[list(key)], contract)
    return [
        {"model": contract.name, "key": k, **told}
        for k, told in zip(keys, _told(table), strict=True)
    ]


def _check_columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    missing = [name for name in ("value", *needed) if name not in table.columns]
    if missing:
        columns = ", ".join(str(column) for column in table.columns)
        more = "" if len(needed) > 1 else " With --model, the key features do instead of an id."
        stop(f"The table has the columns {columns}; {', '.join(missing)} is missing.{more}")


def _told(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the value of each row, and the time where one is stated."""
    from model_service.contract.table import as_json

    told = [{"value": as_json(value)} for value in table["value"]]
    if "at" in table.columns:
        for one, moment in zip(told, table["at"], strict=True):
            one["at"] = as_json(moment)
    return told


def _keep(
    repository: Repository,
    entries: list[dict[str, Any]],
    contracts: Mapping[str, Contract],
    keys: Mapping[str, Sequence[str]],
) -> list[KeptTruth]:
    from model_service.prediction_log.ground_truth import TruthReader, keep
    from model_service.prediction_log.pseudonyms import read_pseudonyms
    from model_service.settings import read_settings

    settings = read_settings(repository, os.environ)
    store = open_log(repository, settings)
    salt, place = settings.prediction_log.salt, settings.stores.prediction_log
    pseudonyms = read_pseudonyms(salt, place, repository.root)
    reader = TruthReader(contracts, keys, pseudonyms, from_table=True)
    kept: list[KeptTruth] = []
    for start in range(0, len(entries), ENTRIES_AT_ONCE):
        kept += keep(store, reader, entries[start : start + ENTRIES_AT_ONCE], time.time())
    store.close()
    return kept


def _contracts(repository: Repository) -> Mapping[str, Contract]:
    """Return the contract of each model as its champion was trained by it, else as it stands."""
    from model_service.cli.version_commands import registry_of
    from model_service.contract.reading import parse_contract
    from model_service.registry.traffic import read_traffic

    models = read_traffic(repository.traffic).models
    registry = registry_of(repository)
    found = {}
    for name in sorted({*repository.model_names(), *models}):
        champion = models[name].champion if name in models else None
        folder = registry.folder(name, champion) if champion else repository.model_folder(name)
        path = folder / "contract.yaml"
        found[name] = parse_contract(path.read_text(encoding="utf-8"), path, model=name)
    return found


def _show(file: Path, kept: list[KeptTruth], counted: Counter[str]) -> None:
    told = {
        "matched": "belong to a prediction",
        "repeated": "were told before",
        "corrected": "replace what was told before",
        "unknown": "belong to no prediction that is known; they are kept until it comes",
        "refused": "[red]are refused[/]",
    }
    say(f"[bold]{literal(file)}[/]: {len(kept)} rows")
    for result, words in told.items():
        if counted[result]:
            say(f"  {counted[result]} {words}")
    refused = [(row, one.message) for row, one in enumerate(kept) if one.result == "refused"]
    if refused:
        say_table(
            ("row", "why it was refused"),
            [(str(row), literal(message)) for row, message in refused[:FAULTS_SHOWN]],
        )
