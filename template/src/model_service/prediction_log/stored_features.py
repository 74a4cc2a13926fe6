"""Which features of a row are kept in the prediction log, and in which form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any, Literal

import msgspec

from model_service.contract.contract import Contract
from model_service.contract.rows import RowValues, RowWarning
from model_service.contract.value_check import RefusedValueError, check_value
from model_service.prediction_log.pseudonyms import Pseudonyms

_encoder = msgspec.json.Encoder()


def json_text(value: Any) -> str:
    """Return a value as the prediction log stores it."""
    return _encoder.encode(value).decode()


def json_texts(values: Sequence[Any]) -> list[str]:
    """Return each of the values as the prediction log stores it, in half the time of one by one."""
    return _encoder.encode_lines(values).decode().split("\n")[:-1]  # JSON has no bare line ends


class TruthKeyError(Exception):
    """A key of ground truth that cannot identify a row; says what would be right."""


class StoredFeatures:
    """What is kept of the rows of one contract.

    `store` is all features, none, or some by name; `key` names the features that identify a row for
    ground truth. A sensitive feature is hashed, or left out where there is no salt.
    """

    def __init__(
        self,
        contract: Contract,
        store: Literal["all", "none"] | Sequence[str],
        key: Sequence[str],
        pseudonyms: Pseudonyms,
    ) -> None:
        names = contract.feature_names
        kept = {"all": names, "none": ()}.get(store, store) if isinstance(store, str) else store
        self.pseudonyms = pseudonyms
        self._contract = contract
        self._names = frozenset(names)
        self._key = [(names.index(name), name) for name in key if name in names]
        self._has_key = bool(key) and len(self._key) == len(key) and pseudonyms.can_hash
        self._kept = [
            (index, feature.name, feature.sensitive)
            for index, feature in enumerate(contract.features)
            if feature.name in kept and (pseudonyms.can_hash or not feature.sensitive)
        ]
        self._is_plain = len(self._kept) == len(names) and not any(s for _, _, s in self._kept)
        # A struct is made and written in half the time of a dict.
        fields = [(f"f{i}", Any, msgspec.field(name=name)) for i, name, _ in self._kept]
        self._used = msgspec.defstruct("Used", fields, gc=False)

    def used(self, rows: Sequence[RowValues]) -> Sequence[str | None]:
        """Return the JSON of what is kept of rows as the model got them; None where that is
        nothing."""
        if not self._kept:
            return [None] * len(rows)
        kept: Iterable[Sequence[Any]] = rows
        if not self._is_plain:
            of = self.pseudonyms.of
            kept = (
                [of(row[i]) if hashed else row[i] for i, _, hashed in self._kept] for row in rows
            )
        return json_texts(list(starmap(self._used, kept)))

    def received(self, row: object) -> str | None:
        """Return the JSON of what is kept of a row as it was sent.

        Fields that are no features are left out: a caller who mistypes the name of a sensitive
        feature still sends its value.
        """
        if not self._kept or not isinstance(row, Mapping):
            return None
        of = self.pseudonyms.of
        return json_text(
            {
                name: of(row[name]) if hashed else row[name]
                for _, name, hashed in self._kept
                if name in row
            }
        )

    def warnings(self, warnings: Sequence[RowWarning]) -> str:
        """Return the JSON of warnings; a name that a caller made up becomes `unknown`."""
        return json_text(
            [
                (one.feature if one.feature in self._names else "unknown", one.problem, one.action)
                for one in warnings
            ]
        )

    def keys(self, rows: Sequence[RowValues]) -> Sequence[str | None]:
        """Return the keys of rows by which ground truth may be told; None without one."""
        if not self._has_key:
            return [None] * len(rows)
        of = self.pseudonyms.of
        return [of({name: row[index] for index, name in self._key}) for row in rows]

    def key_told(self, key: Mapping[str, Any]) -> str:
        """Return the key that a row with these values has.

        Raises:
            TruthKeyError: it has other features than were declared, or a value of a wrong type.
        """
        names = [name for _, name in self._key]
        model = self._contract.name
        if not self._has_key:
            raise TruthKeyError(
                f"Rows of {model} have no key: name its features in ground_truth.key of "
                f"models/{model}/model.yaml"
                + ("." if self.pseudonyms.can_hash else ", and set prediction_log.salt.")
            )
        if sorted(key) != sorted(names):
            raise TruthKeyError(f"The key of {model} is made of {', '.join(names)}, all of them.")
        try:
            values = {
                name: check_value(self._contract.feature(name), key[name], []) for name in key
            }
        except RefusedValueError as refusal:
            raise TruthKeyError(refusal.fault.message) from None
        told = self.pseudonyms.of(values)
        assert told is not None
        return told
