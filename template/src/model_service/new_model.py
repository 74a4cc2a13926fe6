"""A new model's folder: plain files copied from a scaffold, with a contract drafted from data.

A team that starts its models differently puts its own files into `models/.scaffold/`: they replace
the platform's files of the same name.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from model_service.contract.reading import parse_contract
from model_service.repository import Repository

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
PARQUET = (".parquet", ".pq")
SCAFFOLD = Path(__file__).parent / "scaffold"


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
    contract = _contract(name, data, target)
    kind = parse_contract(contract, folder / "contract.yaml").output.type
    beside = folder.with_name(f".new-{name}")
    shutil.rmtree(beside, ignore_errors=True)
    is_parquet = data is not None and data.suffix.lower() in PARQUET
    for source, place in _scaffold_files(repository, kind):
        (beside / place).parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        (beside / place).write_text(_reading_parquet(text) if is_parquet else text, "utf-8")
    (beside / "contract.yaml").write_text(contract, encoding="utf-8")
    if data is not None:
        _keep_data(repository, name, data)
    beside.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _contract(name: str, data: Path | None, target: str | None) -> str:
    if data is None or target is None:
        starter = (SCAFFOLD / "contract.yaml").read_text(encoding="utf-8")
        return starter.replace("name: your_model\n", f"name: {name}\n", 1)
    from model_service.contract.inference import draft_contract

    return draft_contract(data, target, name)


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


def _reading_parquet(text: str) -> str:
    return text.replace('{MODEL.name}.csv"', '{MODEL.name}.parquet"').replace(
        "pd.read_csv(DATA)", "pd.read_parquet(DATA)"
    )


def _keep_data(repository: Repository, name: str, data: Path) -> None:
    suffix = ".parquet" if data.suffix.lower() in PARQUET else ".csv"
    kept = repository.root / "data" / f"{name}{suffix}"
    kept.parent.mkdir(exist_ok=True)
    if kept.exists() and not kept.samefile(data):
        raise NewModelError(f"{kept} is there already. Move it away, or choose another name.")
    if not kept.exists():
        shutil.copyfile(data, kept)
