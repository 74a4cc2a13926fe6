"""A drafted contract is one without faults, and one that a person would keep most of."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_service.contract.contract import Contract, Feature, Policy
from model_service.contract.drafted_feature import readable_range
from model_service.contract.inference import DraftError, draft_contract
from model_service.contract.reading import parse_contract
from model_service.contract.table import check_table

PENGUINS = Path(__file__).parents[3] / "template" / "data" / "penguins.csv"
PATH = Path("drafted/contract.yaml")
COUNT = 40


def drafted(data: Path | pd.DataFrame, target: str = "y") -> Contract:
    return parse_contract(draft_contract(data, target, "drafted"), PATH)


def frame(**columns: Any) -> pd.DataFrame:
    """A table of these columns, a column that is a good feature, and a target."""
    count = len(next(iter(columns.values()))) if columns else COUNT
    numbers = [0.25 + 0.5 * i for i in range(count)]
    return pd.DataFrame({**columns, "x": numbers, "y": numbers})


def feature(name: str, values: Any) -> Feature:
    return drafted(frame(**{name: values})).feature(name)


def test_penguins_are_drafted_as_a_person_would_write_them() -> None:
    contract = drafted(PENGUINS, "species")
    types = {feature.name: feature.type for feature in contract.features}
    assert types == {
        "island": "category",
        "bill_length_mm": "number",
        "bill_depth_mm": "number",
        "flipper_length_mm": "integer",
        "body_mass_g": "integer",
        "sex": "category",
        "year": "integer",
    }
    assert contract.output.type == "class"
    assert contract.output.classes == ("Adelie", "Chinstrap", "Gentoo")
    island = contract.feature("island")
    assert island.categories == ("Biscoe", "Dream", "Torgersen")
    assert (island.on_missing.action, island.on_unknown.action) == ("reject", "pass")
    bill = contract.feature("bill_length_mm")
    assert (bill.unit, bill.minimum, bill.maximum) == ("mm", 29, 63)
    assert bill.on_missing == Policy("impute", 44.45)
    assert bill.on_out_of_range == Policy("clip")
    assert contract.feature("sex").on_missing == Policy("pass")
    assert contract.examples[0]["bill_length_mm"] == 39.1
    assert len(contract.examples) == 2


def test_the_data_passes_the_check_of_its_own_draft() -> None:
    table = pd.read_csv(PENGUINS)
    assert check_table(table, drafted(table, "species")).problems == []
    heavy = table.dropna(subset=["body_mass_g"])
    contract = drafted(heavy, "body_mass_g")
    assert contract.output.type == "number"
    assert check_table(heavy, contract).problems == []


@pytest.mark.parametrize("target", ["species", "sex", "body_mass_g", "island", "year"])
def test_a_draft_accepts_every_row_with_a_target_of_its_file(target: str) -> None:
    table = pd.read_csv(PENGUINS).dropna(subset=[target])
    check = check_table(table, drafted(PENGUINS, target))
    assert check.problems == []
    assert len(check.read.values) == len(table)


NASTY: dict[str, tuple[str, Callable[[int], str]]] = {
    "names": ("größe in m²,ort/stadt,yes, b ", lambda i: f"{i},{'ab'[i % 2]},{i % 7},{i % 3}"),
    "mixed": ("a", lambda i: f"{'abc' if i % 3 else i}"),
    "nothing": ("a", lambda _: ""),
    "negative": ("a,b", lambda i: f"{-i * 1.5},{i - 20}"),
    "huge": ("a,b", lambda i: f"{2**70 + i * 3},{2**60 + i * 3}"),
    "huge with gaps": ("a", lambda i: f"{2**60 + i * 3}" if i % 2 else ""),
    "large": ("a", lambda i: f"{2**52 + i * 3}"),
    "tiny": ("a,b", lambda i: f"{i}e-300,{i}e300"),
    "booleans": ("a,b", lambda i: f"{('true', 'FALSE')[i % 2]},{('True', '', 'False')[i % 3]}"),
    "words of YAML": ("no,null", lambda i: f"{('yes', 'no', '~')[i % 3]},{('1', 'x')[i % 2]}"),
    "gaps": ("a,b", lambda i: f"{'' if i % 2 else i},{'' if i % 5 else 'x'}"),
    "blanks": ("a", lambda i: f"{' ' if i % 2 else 'x'}"),
    "moments": ("a", lambda i: f"2026-01-{i % 28 + 1:02d}T12:00:00+01:00"),
    "quotes": ("a", lambda i: '"say ""hi"", # no: {}"' if i % 2 else "'"),
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("target", ["label", "flag", "measure"])
def test_a_draft_accepts_every_row_of_a_nasty_file(name: str, target: str, tmp_path: Path) -> None:
    head, row = NASTY[name]
    lines = [
        f"{row(i)},{i}.25,{'' if i % 9 == 0 else ('yes', 'no', '3')[i % 3]},"
        f"{('true', 'false')[i % 2]},{i * 3.5}"
        for i in range(60)
    ]
    path = tmp_path / "data.csv"
    path.write_text("\n".join([f"{head},x,label,flag,measure", *lines]), "utf-8")
    table = pd.read_csv(path).dropna(subset=[target])
    check = check_table(table, drafted(path, target))
    assert check.problems == []
    assert len(check.read.values) == len(table)


def test_dates_in_a_file_are_accepted_once_load_does_what_the_draft_says(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("day,y\n" + "".join(f"2026-01-{i + 1},{i}.5\n" for i in range(9, 28)), "utf-8")
    text = draft_contract(path, "y", "drafted")
    assert "load() needs pd.to_datetime(frame['day'], utc=True, format='ISO8601')" in text
    table = pd.read_csv(path)
    contract = parse_contract(text, PATH)
    assert check_table(table, contract).problems
    table["day"] = pd.to_datetime(table["day"], utc=True)
    assert check_table(table, contract).problems == []


def test_rows_without_a_target_are_left_out() -> None:
    table = pd.DataFrame(
        {
            "count": [1.0, 2.0, 5.0] * 10 + [None, 900.0],
            "city": ["a", "b", "a"] * 10 + [None, "c"],
            "gone": [None] * 30 + [1, 2],
            "y": [0.5 * i for i in range(30)] + [None, None],
        }
    )
    text = draft_contract(table, "y", "drafted")
    contract = parse_contract(text, PATH)
    assert contract.feature_names == ("count", "city")
    count, city = contract.features
    assert (count.type, count.maximum, count.on_missing.action) == ("integer", 6, "reject")
    assert city.categories == ("a", "b")
    assert "name: y  # missing in 2 rows" in text


@pytest.mark.parametrize("kind", ["Int64", "string", "category", "boolean"])
def test_rows_without_a_target_are_found_in_every_kind_of_column(kind: str) -> None:
    table = pd.DataFrame({"x": [0.5 * i for i in range(40)]}, index=[0, 1] * 20)
    label = [1, 0, None, 1] * 10
    texts = [None if one is None else str(one) for one in label]
    values = label if kind in ("Int64", "boolean") else texts
    table["y"] = pd.array(values, dtype=kind)
    text = draft_contract(table, "y", "drafted")
    assert "# missing in 10 rows" in text
    expected = ("False", "True") if kind == "boolean" else ("0", "1")
    assert parse_contract(text, PATH).output.classes == expected


def test_classes_that_became_decimals_are_told() -> None:
    table = frame(z=["a", "b"] * 20).assign(y=[1, 0, None, 1] * 10)
    text = draft_contract(table, "y", "drafted")
    contract = parse_contract(text, PATH)
    assert contract.output.classes == ("0.0", "1.0")
    assert "type: class  # decimals as in the data: .astype(int) in load()" in text
    assert check_table(table.dropna(subset=["y"]), contract).problems == []


def test_a_target_that_is_almost_a_column_is_suggested() -> None:
    with pytest.raises(DraftError, match="Did you mean 'species'") as refused:
        draft_contract(PENGUINS, "specis", "penguins")
    assert "island" in str(refused.value)


def test_parquet_is_read_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "penguins.parquet"
    monkeypatch.setattr(pd, "read_parquet", {path: pd.read_csv(PENGUINS)}.__getitem__)
    text = draft_contract(path, "species", "penguins")
    assert text == draft_contract(PENGUINS, "species", "penguins")


def test_parquet_without_its_library_is_refused_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: Path) -> pd.DataFrame:
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd, "read_parquet", absent)
    with pytest.raises(DraftError, match="needs pyarrow"):
        draft_contract(tmp_path / "penguins.parquet", "species", "penguins")


def test_the_draft_says_what_it_saw_and_what_it_cannot_know() -> None:
    text = draft_contract(PENGUINS, "species", "penguins")
    assert "missing in 11 of 344 rows, 3.2%" in text
    assert "seen: 32.1 to 59.6" in text
    assert 'source: {system: "?", owner: "?"}' in text
    assert "least frequent: Chinstrap, 68 of 344 rows" in text
    assert draft_contract(PENGUINS, "species", "penguins") == text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2] * 20, "integer"),
        ([1.0, 2.0] * 20, "number"),
        ([1.0, 2.0, None] * 20, "integer"),
        ([1.5, 2.0, None] * 20, "number"),
        ([True, False] * 20, "boolean"),
        ([True, None] * 20, "boolean"),
        (["yes", "no"] * 20, "category"),
        (["1", "2"] * 20, "category"),
        ([f"word {i}" for i in range(60)], "string"),
        (["2026-01-31", "2026-02-01"] * 20, "datetime"),
        (["31.01.2026", "01.02.2026"] * 20, "datetime"),
        (["01/31/2026", "02/01/2026"] * 20, "datetime"),
        (["2026-01-31T12:00:00Z", None] * 20, "datetime"),
        (pd.date_range("2026-01-01", periods=COUNT), "datetime"),
        ([[1.0, 2.0], [3, 4]] * 20, "vector"),
        (pd.Series(["a", "b"] * 20, dtype="category"), "category"),
        (pd.Series([1, 2, None] * 20, dtype="Int64"), "integer"),
    ],
)
def test_types_are_recognised(values: Any, kind: str) -> None:
    assert feature("column", values).type == kind


def test_true_and_false_in_a_file_are_booleans(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("paid,x,y\n" + "true,1.5,2.5\nfalse,2.5,1\nTRUE,0.5,3\n" * 10, "utf-8")
    assert drafted(path).feature("paid").type == "boolean"


def test_words_that_yaml_reads_otherwise_stay_words() -> None:
    categories = ("1", "1.5", "2026-01-31x", "null", "no", "on", "yes", "~", "é: #", "a\nb")
    found = feature("answer: #1 'quoted'", list(categories) * 4)
    assert set(found.categories) == set(categories)


def test_an_empty_text_counts_as_missing() -> None:
    found = feature("column", ["a", "b", ""] * 20)
    assert found.categories == ("a", "b")
    assert found.on_missing == Policy("pass")


def test_many_different_texts_are_no_categories() -> None:
    found = feature("remarks", [f"remark number {i}" for i in range(200)])
    assert found.type == "string"
    assert found.max_length == 64


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("constant", [7] * COUNT, "always '7'"),
        ("nothing", [None] * COUNT, "no value at all"),
        ("mixed", ["a", 1] * 20, "mixes numbers and texts"),
        ("customer_id", [i * 7 for i in range(COUNT)], "identifier"),
        ("Unnamed: 0", list(range(COUNT)), "identifier"),
        ("number", list(range(COUNT)), "identifier"),
        ("uuid", [f"{i:032x}" for i in range(COUNT)], "identifier"),
        ("ragged", [[1], [1, 2]] * 20, "length"),
        ("huge", [2**60, 2**61] * 20, "2^53"),
        ("objects", [{"a": 1}] * COUNT, "JSON"),
        ("infinite", [math.inf] * COUNT, "finite"),
        ("two\nlines", [1, 2] * 20, "visible characters"),
        ("", [1, 2] * 20, "visible characters"),
        ('5" nails', [1, 2] * 20, "without quotes"),
        ("a\\b", [1, 2] * 20, "backslashes"),
    ],
)
def test_what_is_no_feature_is_left_out_with_a_reason(name: str, values: Any, reason: str) -> None:
    text = draft_contract(frame(**{name: values}), "y", "drafted")
    assert parse_contract(text, PATH).feature_names == ("x",)
    (line,) = (line for line in text.splitlines() if line.startswith("  #   "))
    assert reason in line


def test_measurements_that_happen_to_be_unique_are_kept() -> None:
    values = [3.5 * i for i in range(COUNT)]
    assert feature("length", values).type == "number"
    assert feature("price", [i * i + 3 for i in range(COUNT)]).type == "integer"


def test_personal_data_is_marked() -> None:
    assert feature("phone", ["a b", "c d"] * 20).sensitive
    assert not feature("telephony", [1, 2] * 20).unit


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a"] * 20, ("a", "b")),
        ([True, False] * 20, ("False", "True")),
        ([0, 1] * 20, ("0", "1")),
        ([2, 10, 1] * 20, ("1", "2", "10")),
        (pd.Series(["u", "v"] * 20, dtype=pd.CategoricalDtype(["u", "v", "w"])), ("u", "v")),
        (["a", "b"], ("a", "b")),
    ],
)
def test_a_target_of_few_values_is_a_class(values: Any, classes: tuple[str, ...]) -> None:
    table = pd.DataFrame({"x": [0.5 * i for i in range(len(values))], "y": values})
    contract = drafted(table)
    assert contract.output.classes == classes
    assert check_table(table, contract).problems == []


@pytest.mark.parametrize("values", [list(range(60)), [0.5, 1.5] * 30, [1, 2, 3, 4]])
def test_a_target_of_many_numbers_is_a_number(values: Any) -> None:
    table = pd.DataFrame({"x": [0.5 * i for i in range(len(values))], "y": values})
    assert drafted(table).output.type == "number"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame({"a": [1], "b": [2]}), ["no column 'y'", "a, b"]),
        (pd.DataFrame({"a;y": [1]}), ["separated by ';'"]),
        (pd.DataFrame({"y": [1, 2, 3]}), ["only the target"]),
        (pd.DataFrame({"x": [1], "y": [None]}), ["no values"]),
        (pd.DataFrame({"x": [1], "y": [2]}), ["Only one row has a 'y'"]),
        (pd.DataFrame({"x": [1, 2], "y": [None, 3]}), ["Only one row has a 'y'"]),
        (pd.DataFrame({"x": [1, 2], "y": ["a", "a"]}), ["always 'a'", "two values"]),
        (pd.DataFrame({"x": [None] * 2, "y": [1, 2]}), ["No column can be", "x: it has no"]),
        (pd.DataFrame({"Y ": [1], "label_y": [2]}), ["there are: Y , label_y"]),
        (frame().assign(y=[f"t{i}" for i in range(COUNT)]), ["40 different values"]),
        (frame().assign(y=math.inf), ["infinite"]),
        (pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"]), ["share a name: x"]),
    ],
)
def test_data_that_cannot_be_drafted_is_refused_with_a_cure(
    table: pd.DataFrame, words: list[str]
) -> None:
    with pytest.raises(DraftError) as refused:
        draft_contract(table, "y", "drafted")
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"x,y\n", "no values"),
        (b"x,y\n\xff\xfe,1\n", "not UTF-8"),
        (b'x,y\n1,2\n"3,4,5\n1,2,3,4\n', "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DraftError, match=word):
        draft_contract(path, "y", "drafted")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DraftError, match="cannot be read"):
        draft_contract(tmp_path / "none.csv", "y", "drafted")


def test_two_rows_are_enough_for_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("\ufeffgröße in m²,ort/stadt,y\n12,Köln,3.5\n,,2\n", "utf-8")
    contract = drafted(path)
    assert contract.feature_names == ("größe in m²", "ort/stadt")
    assert contract.examples == ({"größe in m²": 12, "ort/stadt": "Köln"},)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("My Data (2026)", "my_data_2026"),
        ("2026", "model_2026"),
        ("stats", "model_stats"),
        ("💡", "model"),
        ("x" * 80, "x" * 57),
    ],
)
def test_a_name_that_no_model_can_have_is_mended(name: str, model: str) -> None:
    assert f"\nname: {model}\n" in draft_contract(frame(), "y", name)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (32.1, 59.6, False, (29, 63)),
        (0, 100, True, (0, 110)),
        (0.01, 0.97, False, (0, 1)),
        (-5, 5, True, (-6, 6)),
        (-20, -1, False, (-22, 0)),
        (3, 3, True, (2, 4)),
        (0, 0, False, (0, 0.1)),
        (1e300, 1e308, False, None),
    ],
)
def test_ranges_are_round_and_keep_their_side_of_zero(
    low: float, high: float, whole: bool, expected: tuple[float, float] | None
) -> None:
    found = readable_range(low, high, whole=whole)
    assert (found is None) == (expected is None)
    if found and expected:
        assert found == pytest.approx(expected)


@given(st.floats(-1e15, 1e15), st.floats(-1e15, 1e15), st.booleans())
@example(0.0, 5e-324, False)
@example(-1e-309, 1e-308, False)
def test_a_range_holds_the_data(one: float, other: float, whole: bool) -> None:
    low, high = sorted([one, other])
    if whole:
        low, high = math.floor(low), math.ceil(high)
    found = readable_range(low, high, whole=whole)
    assert found
    assert found[0] <= low <= high <= found[1]


CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["2026-01-31", "no", "1", "", " ", "31.12.2025", "1e400"])
    | st.lists(st.floats(0, 1), max_size=2)
)
COLUMNS = st.one_of(
    *(
        st.lists(kind, min_size=22, max_size=22)
        for kind in (
            CELLS,
            st.floats(),
            st.integers(-(2**62), 2**62) | st.none(),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.dates().map(str),
            st.sampled_from(["a", "b", None]),
        )
    )
)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(
            lambda name: name not in ("x", "y")
        ),
        COLUMNS,
        max_size=3,
    )
)
@example({"'": ["'", '"', "\\", " "] * 5 + ["~"] * 2, "# ": ["\x85", "\u2028"] * 11})
def test_whatever_the_data_the_draft_has_no_fault(columns: dict[str, list[Any]]) -> None:
    table = pd.DataFrame({name: pd.Series(cells) for name, cells in columns.items()})
    table["x"] = np.arange(22) * 0.5
    table["y"] = ["a", "b"] * 11
    contract = drafted(table)
    assert "x" in contract.feature_names
    assert contract.output.classes == ("a", "b")


def test_pandas_is_imported_only_when_something_is_drafted() -> None:
    code = (
        "import sys, model_service.contract.inference; "
        "sys.exit('pandas' in sys.modules or 'sklearn' in sys.modules)"
    )
    source = PENGUINS.parents[1] / "src"
    assert subprocess.run([sys.executable, "-c", code], cwd=source, check=False).returncode == 0
