"""A new model's folder: plain files copied from a scaffold, with a contract drafted from data.

A team that starts its models differently puts its own files into `models/.scaffold/`: they replace
the platform's files of the same name.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from model_service.contract.contract import Contract
from model_service.contract.reading import parse_contract
from model_service.repository import Repository

if TYPE_CHECKING:
    import pandas as pd

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
PARQUET = (".parquet", ".pq")
SCAFFOLD = Path(__file__).parent / "scaffold"
STARTER = "    return pd.read_csv(DATA)"
"""What `load()` does in the scaffold; `new` writes there what the data needs."""


class NewModelError(Exception):
    """The model cannot be started; nothing was written."""


def start_model(
    repository: Repository, name: str, data: Path | None = None, target: str | None = None
) -> list[Path]:
    """Write `models/<name>/` and return its files; with data, a copy of it goes to `data/`.

    Raises:
        NewModelError: the name is taken or no name, or the data and its target do not fit together.
    """
    folder = repository.model_folder(name)
    if not NAME.fullmatch(name):
        raise NewModelError(
            f"{name!r} cannot be a model's name: start with a letter, then small letters, digits "
            "and underscores, 63 characters at most, such as customer_churn."
        )
    if folder.exists():
        raise NewModelError(f"{folder} is there already. Choose another name, or delete it first.")
    if (data is None) != (target is None):
        raise NewModelError(
            "Give --data and --target together: the file and its column to predict."
        )
    table = None if data is None else _table(data)
    contract = _contract(name, table, target)
    drafted = parse_contract(contract, folder / "contract.yaml")
    beside = folder.with_name(f".new-{name}")
    shutil.rmtree(beside, ignore_errors=True)
    reading = "" if data is None or table is None else _reading(data, table, drafted)
    for source, place in _scaffold_files(repository, drafted.output.type):
        (beside / place).parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        if reading:
            text = text.replace(STARTER, reading)
        if data is not None and data.suffix.lower() in PARQUET:
            text = text.replace('{MODEL.name}.csv"', '{MODEL.name}.parquet"')
        (beside / place).write_text(text, "utf-8")
    (beside / "contract.yaml").write_text(contract, encoding="utf-8")
    if data is not None:
        _keep_data(repository, name, data)
    beside.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _table(data: Path) -> pd.DataFrame:
    from model_service.contract.inference import read_table

    return read_table(data)


def _contract(name: str, table: pd.DataFrame | None, target: str | None) -> str:
    if table is None or target is None:
        starter = (SCAFFOLD / "contract.yaml").read_text(encoding="utf-8")
        return starter.replace("name: your_model\n", f"name: {name}\n", 1)
    from model_service.contract.inference import draft_contract

    return draft_contract(table, target, name)


def _scaffold_files(repository: Repository, kind: str) -> list[tuple[Path, str]]:
    """Return each file of the scaffold with its place in the model's folder."""
    found = {
        "train.py": SCAFFOLD / ("train_class.py" if kind == "class" else "train_number.py"),
        "features.py": SCAFFOLD / "features.py",
        "card.md": SCAFFOLD / "card.md",
        "model.yaml": SCAFFOLD / "model.yaml",
        "tests/test_behaviour.py": SCAFFOLD / "tests" / "test_behaviour.py",
    }
    own = repository.models / ".scaffold"
    for path in sorted(own.rglob("*")):
        if path.is_file():
            found[path.relative_to(own).as_posix()] = path
    return [(source, place) for place, source in found.items()]


def _reading(data: Path, table: pd.DataFrame, contract: Contract) -> str:
    """Return the code of `load()` for this data, in which moments may be written as text."""
    from model_service.contract.drafted_feature import date_conversion, date_format

    is_parquet = data.suffix.lower() in PARQUET
    read = STARTER.replace("read_csv", "read_parquet") if is_parquet else STARTER
    moments = [f.name for f in contract.features if f.type == "datetime"]
    written = {
        name: format_
        for name in moments
        if table[name].dtype.kind != "M" and (format_ := date_format(table[name]))
    }
    if not written:
        return read
    lines = [
        read.replace("return", "frame ="),
        *(
            f"    frame[{name!r}] = {date_conversion(name, format_)}"
            for name, format_ in written.items()
        ),
        "    return frame",
    ]
    return "\n".join(lines)


def _keep_data(repository: Repository, name: str, data: Path) -> None:
    suffix = ".parquet" if data.suffix.lower() in PARQUET else ".csv"
    kept = repository.root / "data" / f"{name}{suffix}"
    kept.parent.mkdir(exist_ok=True)
    if kept.exists() and not kept.samefile(data):
        raise NewModelError(f"{kept} is there already. Move it away, or choose another name.")
    if not kept.exists():
        shutil.copyfile(data, kept)
