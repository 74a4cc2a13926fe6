"""What the prediction log keeps of a row, with and without a salt."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from model_service.contract.contract import Contract, Feature, Output
from model_service.contract.rows import RowReader
from model_service.prediction_log.pseudonyms import Pseudonyms, read_pseudonyms
from model_service.prediction_log.stored_features import StoredFeatures, TruthKeyError

CONTRACT = Contract(
    name="people",
    contract_version="1.0",
    description="",
    features=(
        Feature(name="email", type="string", sensitive=True),
        Feature(name="age", type="number"),
        Feature(name="born", type="datetime"),
    ),
    output=Output(name="fate", type="number", meaning=""),
)
ROW = {"email": "a@x", "age": 3, "born": "2001-01-01T00:00:00Z"}
SALTED, WITHOUT = Pseudonyms(b"salt"), Pseudonyms(None)


def stored(pseudonyms: Pseudonyms, key: tuple[str, ...] = ("email", "age")) -> StoredFeatures:
    return StoredFeatures(CONTRACT, "all", key, pseudonyms)


def test_without_a_salt_what_would_be_hashed_is_left_out() -> None:
    [values] = RowReader(CONTRACT).read_rows([ROW]).values
    assert stored(WITHOUT).used([values]) == ['{"age":3.0,"born":"2001-01-01T00:00:00Z"}']
    assert stored(WITHOUT).received(ROW) == '{"age":3,"born":"2001-01-01T00:00:00Z"}'
    assert stored(WITHOUT).keys([values]) == [None]
    with pytest.raises(TruthKeyError, match=r"set prediction_log\.salt"):
        stored(WITHOUT).key_told({"email": "a@x", "age": 3})


def test_a_key_that_is_told_is_the_key_of_the_row_however_it_is_written() -> None:
    [values] = RowReader(CONTRACT).read_rows([ROW]).values
    told = stored(SALTED).key_told({"age": 3.0, "email": "a@x"})
    assert [told] == stored(SALTED).keys([values])
    assert [told] != stored(Pseudonyms(b"other")).keys([values])
    assert "a@x" not in told


def test_a_key_of_a_feature_that_a_version_does_not_have_is_no_key() -> None:
    [values] = RowReader(CONTRACT).read_rows([ROW]).values
    assert stored(SALTED, ("email", "new")).keys([values]) == [None]


def test_the_same_value_has_the_same_hash_for_who_has_the_same_salt(tmp_path: Path) -> None:
    assert SALTED.of("a@x") == Pseudonyms(b"salt").of("a@x") != Pseudonyms(b"pepper").of("a@x")
    assert SALTED.of(None) is None
    by_setting = read_pseudonyms("salt", "prediction_log", tmp_path)
    assert by_setting.of("a@x") == SALTED.of("a@x")
    assert not list(tmp_path.iterdir())
    assert not read_pseudonyms("", "postgresql://host/log", tmp_path).can_hash


def _hash(folder: str) -> str | None:
    return read_pseudonyms("", "log", Path(folder)).of("a@x")


def test_processes_that_start_at_once_agree_on_a_salt_that_only_the_owner_reads(
    tmp_path: Path,
) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        hashes = pool.map(_hash, [str(tmp_path)] * 24, chunksize=1)
    assert len(set(hashes)) == 1
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["salt"]
    assert (tmp_path / "log" / "salt").stat().st_mode & 0o777 == 0o600
