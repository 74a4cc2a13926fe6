"""Ground truth as it is told: by HTTP or in a file, read entry by entry."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from model_service.contract.contract import Contract, Output
from model_service.prediction_log.pseudonyms import Pseudonyms
from model_service.prediction_log.records import GroundTruth, TruthResult
from model_service.prediction_log.store import PredictionStore
from model_service.prediction_log.stored_features import StoredFeatures, TruthKeyError

FIELDS = ("prediction_id", "model", "key", "at", "value")
MOST_OF_UNKNOWN = 4_096
"""Characters or numbers in a value that no contract bounds, since its model is not known."""
_PREDICTION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}\Z")


class TruthError(Exception):
    """An entry that is no ground truth; says what would be right."""


class KeptTruth(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one entry; a refused one was not kept, and `message` says why."""

    result: TruthResult | Literal["refused"]
    message: str = ""


class TruthReader:
    """Reads entries for the models of `contracts`; `keys` names the key features of each.

    `from_table`: a class that looks like a number has become one, as in training data.
    """

    def __init__(
        self,
        contracts: Mapping[str, Contract],
        keys: Mapping[str, Sequence[str]],
        pseudonyms: Pseudonyms,
        *,
        from_table: bool = False,
    ) -> None:
        self._contracts = contracts
        self._from_table = from_table
        self._stored = {
            name: StoredFeatures(contract, "none", keys.get(name, ()), pseudonyms)
            for name, contract in contracts.items()
        }

    def read(self, stated: object, models: Mapping[str, str], now: float) -> GroundTruth:
        """Return one entry; `models` holds the model of each prediction id that is known.

        Raises:
            TruthError: it cannot be kept.
        """
        if not isinstance(stated, Mapping):
            raise TruthError('An entry is an object such as {"prediction_id": "…", "value": …}.')
        for name in stated:
            if name not in FIELDS:
                raise TruthError(f"{name[:80]!r} is no field. Fields: {', '.join(FIELDS)}.")
        if "value" not in stated:
            raise TruthError('Say what really happened in "value".')
        prediction_id, model = stated.get("prediction_id"), stated.get("model")
        at = _moment(stated.get("at"), now)
        if prediction_id is None:
            return self._by_key(stated, at, now)
        if not isinstance(prediction_id, str) or not _PREDICTION_ID.match(prediction_id):
            raise TruthError("A prediction_id is the text that came with the answer.")
        if stated.get("key") is not None:
            raise TruthError("Send either a prediction_id or a key.")
        known = models.get(prediction_id, model)
        if prediction_id in models and known not in self._contracts:
            known = None  # it is loading, out or gone, which is no fault of who tells the truth
        value = self._value(known, stated["value"])
        return GroundTruth(prediction_id=prediction_id, value=value, at=at, received_at=now)

    def _by_key(self, stated: Mapping[str, Any], at: float, now: float) -> GroundTruth:
        model, key = stated.get("model"), stated.get("key")
        if model is None or not isinstance(key, Mapping):
            raise TruthError('Say which prediction: by "prediction_id", or by "model" and "key".')
        value = self._value(model, stated["value"])
        try:
            told = self._stored[model].key_told(key)
        except TruthKeyError as error:
            raise TruthError(str(error)) from None
        return GroundTruth(model=model, key=told, value=value, at=at, received_at=now)

    def _value(self, model: object, value: object) -> Any:
        """Return a value that the model might have answered.

        Of a prediction that is not known yet the model may not be known either.
        """
        if model is None:
            return _of_some_model(value)
        contract = self._contracts.get(model) if isinstance(model, str) else None
        if contract is None:
            listed = ", ".join(sorted(self._contracts)) or "none"
            raise TruthError(f"There is no such model. Models: {listed}.")
        if self._from_table and contract.output.type == "class":
            value = str(value)
        return _checked(contract.output, value)


def keep(
    store: PredictionStore,
    reader: TruthReader,
    entries: Sequence[object],
    now: float,
    on_kept: Callable[[Sequence[tuple[GroundTruth, TruthResult]]], object] | None = None,
) -> list[KeptTruth]:
    """Keep entries and say of each what became of it; a bad one costs no other.

    Raises:
        StoreError: none was kept; tell them again.
    """
    ids = [entry.get("prediction_id") for entry in entries if isinstance(entry, Mapping)]
    models = store.models_of([one for one in ids if isinstance(one, str) and "\0" not in one])
    kept: list[KeptTruth | None] = []
    truths: list[GroundTruth] = []
    for entry in entries:
        try:
            truths.append(reader.read(entry, models, now))
            kept.append(None)
        except TruthError as error:
            kept.append(KeptTruth("refused", str(error)))
    results = store.add_ground_truth(truths).results
    if on_kept is not None and truths:
        on_kept(list(zip(truths, results, strict=True)))
    left = iter(results)
    return [one or KeptTruth(next(left)) for one in kept]


def _checked(output: Output, value: object) -> Any:
    if output.type == "class":
        if value not in output.classes or not isinstance(value, str):
            raise TruthError(f"A value of {output.name} is one of {', '.join(output.classes)}.")
        return value
    if output.type == "number":
        return _number(output.name, value)
    if not isinstance(value, list) or len(value) != output.length:
        raise TruthError(f"A value of {output.name} is a list of {output.length} numbers.")
    return [_number(output.name, element) for element in value]


def _of_some_model(value: object) -> Any:
    if isinstance(value, str | list) and len(value) > MOST_OF_UNKNOWN:
        raise TruthError(
            f"The value of a prediction that is not known has at most {MOST_OF_UNKNOWN} characters "
            'or numbers. If its model answers with more, say its "model".'
        )
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_number("a prediction", element) for element in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number("a prediction", value)
    raise TruthError("A value is text, a number or a list of numbers.")


def _number(name: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON may hold an integer of any size
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise TruthError(f"A value of {name} is a number.")
    return number


def _moment(stated: object, now: float) -> float:
    if stated is None:
        return now
    if isinstance(stated, int | float) and not isinstance(stated, bool) and 0 <= stated < 1e11:
        return float(stated)
    try:
        moment = dt.datetime.fromisoformat(stated) if isinstance(stated, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise TruthError('"at" is a time with its offset, such as 2026-01-31T12:00:00Z.')
    return moment.timestamp()
