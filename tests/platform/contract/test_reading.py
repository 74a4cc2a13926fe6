"""A contract is read whole, or refused with every fault, its line and its cure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.contract.contract import Policy, Source
from model_service.contract.reading import (
    ContractError,
    ContractFault,
    parse_contract,
    read_contract,
)
from model_service.contract.rows import RowReader

PATH = Path("models/house/contract.yaml")
GOOD = """\
name: house
contract_version: "1.2"
description: Whether a house is sold within a month.
unknown_fields: ignore
features:
  size:
    type: number
    unit: m²
    description: Living space.
    source: {system: land register, owner: data-team}
    minimum: 10
    maximum: 500
    on_missing: {impute: 90}
    on_out_of_range: clip
    example: 70
  rooms:
    type: integer
    minimum: 1
    on_missing: pass
  city:
    type: category
    categories: [Bonn, "no"]
    on_unknown: {map_to: Bonn}
  built:
    type: datetime
    minimum: 1900-01-01T00:00:00Z
  picture:
    type: vector
    length: 2
  owner:
    type: string
    max_length: 80
    sensitive: true
output:
  name: sold
  type: class
  classes: ["no", "yes"]
  meaning: Sold within a month.
  thresholds: {"yes": 0.3}
  decided_by: sales
examples:
  - {size: 70, rooms: 2, city: Bonn, built: "1990-05-01T00:00:00Z", "picture": [0, 1], owner: me}
"""


def line_of(text: str, words: str) -> int:
    """Return the only line that holds these words."""
    (line,) = (i for i, line in enumerate(text.splitlines(), 1) if words in line)
    return line


def faults_of(text: str, path: Path = PATH) -> list[ContractFault]:
    with pytest.raises(ContractError) as refused:
        parse_contract(text, path)
    assert refused.value.faults
    assert str(refused.value).splitlines() == [str(fault) for fault in refused.value.faults]
    return refused.value.faults


def test_a_contract_is_read_whole() -> None:
    contract = parse_contract(GOOD, PATH)
    assert contract.name == "house"
    assert contract.contract_version == "1.2"
    assert contract.unknown_fields == "ignore"
    assert contract.feature_names == ("size", "rooms", "city", "built", "picture", "owner")
    size = contract.feature("size")
    assert (size.unit, size.minimum, size.maximum, size.example) == ("m²", 10, 500, 70)
    assert size.source == Source("land register", "data-team")
    assert size.on_missing == Policy("impute", 90)
    assert size.on_out_of_range == Policy("clip")
    assert contract.feature("city").categories == ("Bonn", "no")
    assert contract.feature("city").on_unknown == Policy("map_to", "Bonn")
    assert contract.feature("city").on_missing == Policy("reject")
    assert contract.feature("owner").sensitive
    assert contract.output.thresholds == {"yes": 0.3}
    assert len(RowReader(contract).read_rows(contract.examples).values) == 1


@pytest.mark.parametrize(
    ("old", "new", "where", "field", "words"),
    [
        ("unit: m²", "unti: m²", "unti", "features.size.unti", "Did you mean unit?"),
        ("features:", "featrues:", "featrues", "featrues", "Did you mean features?"),
        ('"1.2"', "1.2", "contract_version", "contract_version", 'contract_version: "1.2"'),
        ("name: house", "name: home", "name: home", "name", "Write name: house"),
        ("name: house", "name: House", "name: House", "name", "Small letters"),
        ('[Bonn, "no"]', "[Bonn, no]", "[Bonn", "features.city.categories.1", 'such as "no"'),
        ('[Bonn, "no"]', "[Bonn, 3]", "[Bonn", "features.city.categories.1", '"3", in quotes'),
        ('[Bonn, "no"]', '[Bonn, ""]', "[Bonn", "features.city.categories.1", "on_missing"),
        ("minimum: 10\n", "minimum: 600\n", "600", "features.size.minimum", "above maximum 500"),
        ("{impute: 90}", "{impute: 9}", "impute: 9", "features.size.on_missing.impute", "10 and"),
        ("{impute: 90}", '{impute: "90"}', "impute", "features.size.on_missing.impute", "a number"),
        ("{map_to: Bonn}", "{map_to: Köln}", "Köln", "features.city.on_unknown.map_to", "one of"),
        ("{map_to: Bonn}", "clip", "on_unknown: clip", "features.city.on_unknown", "{map_to:"),
        ("    on_missing: pass", "    on_unknown: pass", "on_unknown: p",
         "features.rooms.on_unknown", "It is for category"),
        ("{\"yes\": 0.3}", "{maybe: 0.3}", "maybe", "output.thresholds.maybe", "Classes: no, yes"),
        ("{\"yes\": 0.3}", "{\"yes\": 30}", "30}", "output.thresholds.yes", "Write 0 to 1"),
        ("  decided_by: sales\n", "", "thresholds", "output.thresholds", "decided_by"),
        ("    length: 2\n", "", "  picture:", "features.picture.length", "length: 3"),
        ('["no", "yes"]', '["yes"]', "classes", "output.classes", "two classes"),
        ("name: sold", "name: size", "name: size", "output.name", "take the feature out"),
        ("name: sold", "name: probabilities", "name: prob", "output.name", "Choose another name"),
        ("name: sold", "name: prediction_id", "name: pred", "output.name", "Choose another name"),
        ("rooms: 2,", "rooms: 2.5,", "rooms: 2.5", "examples.0.rooms", "whole number"),
        ("size: 70,", "size: big,", "size: big", "examples.0.size", "a number"),
        ("example: 70", "example: true", "example: true", "features.size.example", "a number"),
        ("1900-01-01T00:00:00Z", "1900-01-01", "1900", "features.built.minimum", "offset"),
        ("max_length: 80", "max_length: none", "max_length", "features.owner.max_length", "100000"),
        ("sensitive: true", "sensitive: maybe", "maybe", "features.owner.sensitive", "one of them"),
        ("type: integer", "type: int", "type: int", "features.rooms.type", "integer, number"),
        (": ignore", ": drop", ": drop", "unknown_fields", "reject or ignore"),
        ("owner: data-team}", "}", "system:", "features.size.source", "owner"),
        ("unit: m²", "unit: 5", "unit: 5", "features.size.unit", "Put it in quotes"),
        ("maximum: 500", 'maximum: "500"', "500", "features.size.maximum", "without quotes"),
        ("maximum: 500", "maximum: .nan", "nan", "features.size.maximum", "Write a number"),
        ("maximum: 500", f"maximum: {10**400}", "0" * 9, "features.size.maximum", "Write a number"),
        ("maximum: 500", "maximum: !!bool x", "bool", "features.size.maximum", "Put it in quotes"),
        ('[Bonn, "no"]', "[]", "categories: []", "features.city.categories", "[a, b, c]"),
        ('    categories: [Bonn, "no"]\n', "", "  city:", "features.city.categories", "[a, b, c]"),
        ('[Bonn, "no"]', '[Bonn, "no", Bonn]', "categories", "features.city.categories.2", "twice"),
        ("  rooms:\n    type: integer\n    minimum: 1\n    on_missing: pass\n", "  rooms: 3\n",
         "rooms: 3", "features.rooms", "{type: number}"),
        ("  owner:\n", f"  {'o' * 101}:\n", "ooo", f"features.{'o' * 101}", "100 visible"),
        ("  owner:\n", '  "a\\tb":\n', "a\\tb", "features.a\tb", "100 visible"),
        ("  picture:\n    type: vector\n    length: 2\n",
         "  picture:\n    type: vector\n    length: two\n",
         "length: two", "features.picture.length", "1 to 100000"),
        ("  type: class\n", "  type: label\n", "type: label", "output.type", "class, number"),
        ("  meaning: Sold within a month.\n", "", "output:", "output.meaning", "is missing"),
        ("Sold within a month.", "no", "meaning: no", "output.meaning", "must be text"),
        ("{\"yes\": 0.3}", "0.3", "thresholds: 0.3", "output.thresholds", "{class: probability}"),
        ("decided_by: sales", "decided_by: 7", "decided_by", "output.decided_by", "Write text"),
        ("decided_by: sales", "calibrated: maybe", "calibrated", "output.calibrated", "or false"),
        ("Whether a house is sold within a month.", '" "', "description: \" \"", "description",
         "sentence"),
        ("examples:\n  - {", "examples:\n  - 3\n  - {", "examples:", "examples", "feature: value"),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_its_field_and_its_cure(
    old: str, new: str, where: str, field: str, words: str
) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    fault = next(each for each in faults_of(text) if each.field == field)
    assert fault.line == line_of(text, where)
    assert words in f"{fault.message} {fault.cure}"
    assert fault.message
    assert fault.cure
    assert str(fault).startswith(f"{PATH}:{fault.line}: {fault.field}: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unit: m²", "unti: m²"),
        ("{impute: 90}", "{impute: 9}"),
        ("type: integer", "type: int"),
        ("name: house", "name: home"),
        ("rooms: 2,", "rooms: 2.5,"),
    ],
)
def test_one_mistake_is_one_fault(old: str, new: str) -> None:
    assert len(faults_of(GOOD.replace(old, new))) == 1


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace("type: integer", "type: int").replace("unit: m²", "unti: m²")
    text = text.replace('"1.2"', "1.2").replace('["no", "yes"]', "[no, yes]")
    fields = {fault.field for fault in faults_of(text)}
    assert {"features.rooms.type", "features.size.unti", "contract_version"} <= fields
    assert {"output.classes.0", "output.classes.1"} <= fields


def test_a_feature_that_stands_twice_is_found_on_its_second_line() -> None:
    text = GOOD.replace("output:\n", "  size:\n    type: number\noutput:\n")
    (fault,) = faults_of(text)
    assert fault.field == "features.size"
    assert fault.line == line_of(text, "output:") - 2
    assert "a second time" in fault.message
    assert f"line {line_of(GOOD, '  size:')}" in fault.cure


@pytest.mark.parametrize(
    ("output", "field", "words"),
    [
        ("output: 3\n", "output", "needs an output"),
        ("", "output", "needs an output"),
        ("output: {name: price, type: vector, meaning: m}\n", "output.length", "length: 3"),
        ("output: {name: p, type: vector, meaning: m, length: 0}\n", "output.length", "length: 3"),
        (
            "output: {name: p, type: number, meaning: m, minimum: 2, maximum: 1}\n",
            "output.minimum",
            "Exchange them",
        ),
        (
            "output: {name: p, type: number, meaning: m, maximum: high}\n",
            "output.maximum",
            "Write a number",
        ),
        (
            "output: {name: p, type: number, meaning: m, classes: [a, b]}\n",
            "output.classes",
            "Known here",
        ),
    ],
)
def test_a_fault_of_the_output_has_its_line_its_field_and_its_cure(
    output: str, field: str, words: str
) -> None:
    text = "# a comment\n" + GOOD.split("output:\n")[0] + output
    (fault,) = faults_of(text)
    assert fault.field == field
    assert words in f"{fault.message} {fault.cure}"
    assert fault.cure
    assert fault.line == (line_of(text, "output:" if output else "name: house"))


@pytest.mark.parametrize("features", ["features: {}\n", "features: [size]\n", ""])
def test_a_contract_without_features_is_refused(features: str) -> None:
    before, rest = GOOD.split("features:\n")
    text = before + features + "output:\n" + rest.split("output:\n")[1].split("examples:")[0]
    (fault,) = faults_of(text)
    assert fault.field == "features"
    assert fault.line == (line_of(text, "features:") if features else 1)
    assert "age: {type: integer}" in fault.cure


def test_a_policy_for_a_range_needs_a_range() -> None:
    text = GOOD.replace("    type: vector", "    on_out_of_range: clip\n    type: vector")
    (fault,) = faults_of(text)
    assert fault.field == "features.picture.on_out_of_range"
    assert "no range" in fault.message


@pytest.mark.parametrize("name", ["stats", "ready", "versions"])
def test_words_of_the_protocol_are_no_names(name: str) -> None:
    (fault,) = faults_of(GOOD.replace("name: house", f"name: {name}"), Path(name, "contract.yaml"))
    assert fault.field == "name"


def test_the_name_may_be_stated_for_a_version_folder() -> None:
    assert parse_contract(GOOD, Path("registry/house/1/contract.yaml"), model="house")
    with pytest.raises(ContractError, match="not the name"):
        parse_contract(GOOD, Path("registry/house/1/contract.yaml"), model="home")


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("", 1, "mapping"),
        ("- a\n- b\n", 1, "mapping"),
        ("name: house\nfeatures: [1, 2\n", 3, "no YAML"),
        ("name: house\n\tfeatures: 1\n", 2, "no YAML"),
        ("name: &a [*a]\n", 1, "deep"),
        ("a: " + "[" * 50 + "]" * 50, 1, "deep"),
        ("# " + "x" * 2_000_001, 1, "2 MB"),
    ],
)
def test_what_is_no_contract_is_refused_with_its_line(text: str, line: int, word: str) -> None:
    (fault,) = faults_of(text)
    assert fault.line == line
    assert word in fault.message


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    with pytest.raises(ContractError, match="There is no contract"):
        read_contract(path)
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ContractError, match="Save it as UTF-8"):
        read_contract(path)


def test_a_file_is_read_under_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "house"
    folder.mkdir()
    (folder / "contract.yaml").write_text("\ufeff" + GOOD, "utf-8")
    assert read_contract(folder / "contract.yaml").name == "house"


LINES = GOOD.splitlines(keepends=True)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(LINES) - 1),
    st.sampled_from(["", "  x: 1\n", "~\n", "- 3\n", "    type: [a]\n", "  {}\n", "name: {a: b}\n"])
    | st.text(max_size=20),
)
def test_whatever_is_written_it_is_read_or_refused(line: int, words: str) -> None:
    text = "".join([*LINES[:line], words, *LINES[line + 1 :]])
    try:
        contract = parse_contract(text, PATH)
    except ContractError as error:
        refused = error.faults
    else:
        assert RowReader(contract)
        return
    assert refused
    assert all(1 <= fault.line <= len(text.splitlines()) + 1 for fault in refused)


def test_reading_imports_nothing_for_training() -> None:
    code = (
        "import sys, model_service.contract.reading; "
        "sys.exit(bool({'pandas', 'sklearn', 'jsonschema'} & sys.modules.keys()))"
    )
    source = Path(__file__).parents[3] / "template" / "src"
    assert subprocess.run([sys.executable, "-c", code], cwd=source, check=False).returncode == 0
