"""`import`: files that were trained elsewhere become versions that answer as the files do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from model_service.registry.golden import read_golden
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import read_manifest
from model_service.registry.registry import Registry
from model_service.training import TrainingError, train
from model_service.training.importing import import_model
from tests.platform.commands.command import command
from tests.platform.training.small_repository import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from model_service.registry.loaded_version import LoadedVersion
    from model_service.repository import Repository

NUMBERS = ["weight", "length"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path)


@pytest.fixture
def data(repository: Repository) -> Any:
    frame = pd.read_csv(repository.root / "data.csv").dropna()
    return frame.assign(pieces=np.arange(len(frame)) % 7)


def brought_in(repository: Repository, data: Any, content: bytes, **given: Any) -> LoadedVersion:
    """Import a file as the model `brought`, with `data` as the sample, and load the version."""
    file = repository.root / given.pop("file", "model.onnx")
    sample = repository.root / "sample.csv"
    file.write_bytes(content)
    data.to_csv(sample, index=False)
    name = given.pop("name", "brought")
    given.setdefault("report", lambda _: None)
    return load_version(import_model(repository, name, file, sample, **given).folder)


def answers(loaded: LoadedVersion, data: Any) -> list[Any]:
    """Return what a version answers for the rows of a table."""
    read = loaded.reader.read_rows(data.to_dict("records"))
    assert not read.faults
    return loaded.predict(read.values).values


def mixed_pipeline(data: Any, columns: list[str]) -> Any:
    text = [name for name in columns if data[name].dtype.kind not in "if"]
    steps = ColumnTransformer(
        [
            ("numbers", StandardScaler(), [name for name in columns if name not in text]),
            ("text", OneHotEncoder(handle_unknown="ignore"), text),
        ]
    )
    return make_pipeline(steps, LogisticRegression()).fit(data[columns], data["kind"])


def test_a_graph_with_an_input_per_column_answers_as_the_file_does(
    repository: Repository, data: Any
) -> None:
    """Its columns stand in another order than in the sample, and are of three types."""
    columns = ["colour", "pieces", "length", "weight"]
    data = data.astype({"length": "f", "weight": "f"})
    pipeline = mixed_pipeline(data, columns)
    graph = to_onnx(pipeline, data[columns][:1], options={"zipmap": False})
    content = graph.SerializeToString()
    loaded = brought_in(repository, data, content, target="kind")
    assert answers(loaded, data[columns]) == list(pipeline.predict(data[columns]))
    manifest = loaded.manifest
    assert manifest.format == "onnx"
    assert manifest.parity is not None
    assert manifest.parity.rows >= len(data)
    assert manifest.metrics["accuracy"] == pytest.approx(
        pipeline.score(data[columns], data["kind"])
    )
    assert loaded.replay_golden() == []
    assert manifest.imported is not None
    assert manifest.imported.name == "model.onnx"


def test_a_graph_with_one_block_of_numbers_and_numbered_classes(
    repository: Repository, data: Any
) -> None:
    kinds = (data["kind"] == "pear").astype(int)
    forest = RandomForestClassifier(5, random_state=0).fit(data[NUMBERS].to_numpy("f"), kinds)
    graph = to_onnx(forest, data[NUMBERS].to_numpy("f")[:1])
    sample = data[NUMBERS].assign(is_pear=kinds)
    loaded = brought_in(repository, sample, graph.SerializeToString(), target="is_pear")
    expected = [str(label) for label in forest.predict(data[NUMBERS].to_numpy("f"))]
    assert answers(loaded, data[NUMBERS]) == expected


def test_the_graph_of_a_version_is_imported_with_the_features_that_it_was_trained_on(
    repository: Repository, data: Any
) -> None:
    own = train(repository, "fruit").folder
    sample = data.drop(columns=["pieces"])
    loaded = brought_in(repository, sample, (own / "model.onnx").read_bytes(), name="fruit")
    rows = data[["weight", "length", "colour"]]
    assert answers(loaded, rows) == answers(load_version(own), rows)


def test_a_graph_of_numbers_without_truth_in_the_sample_is_not_measured(
    repository: Repository, data: Any
) -> None:
    line = LinearRegression().fit(data[["length"]].to_numpy("f"), data["weight"])
    content = to_onnx(line, data[["length"]].to_numpy("f")[:1]).SerializeToString()
    told: list[str] = []
    loaded = brought_in(repository, data[["length"]], content, report=told.append)
    assert answers(loaded, data[["length"]])[:3] == pytest.approx(
        line.predict(data[["length"]].to_numpy("f"))[:3], rel=1e-4
    )
    assert loaded.manifest.metrics == {}
    assert any("nothing is measured" in line for line in told)
    folder = Registry(repository.root / "registry").folder("brought", "1")
    assert "Not known" in (folder / "card.md").read_text()
    assert read_golden((folder / "golden.jsonl").read_bytes())


def test_gates_of_the_model_hold_for_an_imported_file(repository: Repository, data: Any) -> None:
    upside_down = mixed_pipeline(
        data.assign(kind=data["kind"].map({"pear": "apple", "apple": "pear"})),
        ["weight", "length", "colour"],
    )
    features = repository.model_folder("fruit") / "features.py"
    features.write_text("def features(columns):\n    return dict(columns)\n")
    sample = data.drop(columns=["pieces"])
    with pytest.raises(TrainingError, match="accuracy is"):
        brought_in(
            repository, sample, skops.io.dumps(upside_down), file="model.skops", name="fruit"
        )
    assert Registry(repository.root / "registry").versions("fruit") == []


def test_a_pickle_is_loaded_only_if_that_was_said_and_served_as_onnx(
    repository: Repository, data: Any
) -> None:
    columns = ["weight", "length", "colour"]
    pipeline = mixed_pipeline(data, columns)
    file = repository.root / "model.joblib"
    joblib.dump(pipeline, file)
    with pytest.raises(TrainingError, match="--allow-pickle"):
        brought_in(repository, data, file.read_bytes(), file="model.joblib", target="kind")
    loaded = brought_in(
        repository, data, file.read_bytes(), file="model.joblib", target="kind", allow_pickle=True
    )
    assert answers(loaded, data[columns]) == list(pipeline.predict(data[columns]))
    assert (loaded.manifest.format, loaded.manifest.pickle) == ("onnx", False)


def test_a_skops_file_of_unknown_types_is_refused(repository: Repository, data: Any) -> None:
    odd = make_pipeline(FunctionTransformer(pd.DataFrame.round), LinearRegression())
    odd.fit(data[["length"]], data["weight"])
    with pytest.raises(TrainingError, match="pandas"):
        brought_in(repository, data, skops.io.dumps(odd), file="model.skops", target="weight")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.onnx", b"no graph", "no ONNX graph"),
        ("model.json", b"{}", "XGBoost"),
        ("model.h5", b"", "no file that can be imported"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(
    repository: Repository, data: Any, file: str, content: bytes, said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        brought_in(repository, data, content, file=file, target="kind")
    assert not repository.model_folder("brought").exists()


def test_a_graph_over_pictures_is_refused(repository: Repository, data: Any) -> None:
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("same", TensorProto.FLOAT, [1, 3, 8, 8])
    node = helper.make_node("Identity", ["picture"], ["same"])
    graph = helper.make_graph([node], "pictures", [picture], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    with pytest.raises(TrainingError, match="only graphs over"):
        brought_in(repository, data, model.SerializeToString(), target="kind")


def test_a_sample_without_a_column_of_the_graph_is_refused(
    repository: Repository, data: Any
) -> None:
    columns = ["weight", "length", "colour"]
    graph = to_onnx(mixed_pipeline(data, columns), data[columns][:1], options={"zipmap": False})
    content = graph.SerializeToString()
    with pytest.raises(TrainingError, match="takes length, and the sample has no such column"):
        brought_in(repository, data.drop(columns=["length"]), content, target="kind")


def test_the_command_imports_and_says_who_answers(repository: Repository, data: Any) -> None:
    line = LinearRegression().fit(data[["length"]].to_numpy("f"), data["weight"])
    file = repository.root / "model.onnx"
    file.write_bytes(to_onnx(line, data[["length"]].to_numpy("f")[:1]).SerializeToString())
    sample = repository.root / "sample.csv"
    data[["length", "weight"]].to_csv(sample, index=False)
    words = ["import", "weights", str(file), "--data", str(sample), "--target", "weight"]
    first, second = command(repository, *words), command(repository, *words)
    assert first.returncode == 0, first.stderr
    assert "version 1 (onnx)" in first.stdout
    assert "Version 1 still answers" in second.stdout
    folder = Registry(repository.root / "registry").folder("weights", "2")
    assert read_manifest(folder).metrics["r2"] == pytest.approx(
        line.score(data[["length"]].to_numpy("f"), data["weight"]), abs=1e-3
    )
