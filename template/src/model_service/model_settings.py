"""`models/<name>/model.yaml`: what the team declares about a model beside its interface.

None of it is frozen into versions: it says how a model is run, watched and handed over today.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from model_service.files import FileError, read_yaml
from model_service.repository import Repository
from model_service.setting_names import hint_for, names_in

FILE = "model.yaml"
PREDICTION = "prediction"
"""The output, wherever a feature is named."""


class ModelSettingsError(Exception):
    """`model.yaml` is not understood; says where and what would be right."""


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the model is expected to be asked."""

    rows_per_day: Annotated[int, msgspec.Meta(ge=1)] = 1000
    peak_requests_per_second: Annotated[float, msgspec.Meta(gt=0)] = 10.0


class GroundTruthPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether and when it becomes known what really happened; `key` names the features that tell
    which row it is about where the prediction id is not known."""

    expected: bool = False
    within_days: Annotated[int, msgspec.Meta(ge=1)] = 30
    key: tuple[str, ...] = ()


class ExpectedChange(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}
):
    """A change of a feature (or of `prediction`) that raises no alarm: from a day to a day, the
    last one included, and why."""

    feature: str
    since: dt.date
    until: dt.date
    reason: str


class Retrain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What leads to a new training, and who does it."""

    trigger: str = ""
    owner: str = ""


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be declared about a model; all of it is optional.

    No maintainers: the owners of the service. No important features: all of them. `slices` names
    features whose values are judged apart. Without `batching`, requests that come together are not
    answered together.
    """

    maintainers: tuple[str, ...] = ()
    traffic: Traffic = Traffic()
    max_age_days: Annotated[int, msgspec.Meta(ge=1)] = 365
    ground_truth: GroundTruthPlan = GroundTruthPlan()
    important_features: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    expected_changes: tuple[ExpectedChange, ...] = ()
    retrain: Retrain = Retrain()
    batching: bool = True


def read_model_settings(repository: Repository, name: str) -> ModelSettings:
    """Read `model.yaml` of a model; what it does not say has a default, as has all without it.

    Raises:
        ModelSettingsError: the file cannot be read, or a name or value in it is wrong.
    """
    path = repository.model_folder(name) / FILE
    try:
        stated = read_yaml(path)
    except FileNotFoundError:
        return ModelSettings()
    except FileError as error:
        raise ModelSettingsError(str(error)) from None
    try:
        return msgspec.convert(stated or {}, ModelSettings)
    except msgspec.ValidationError as error:
        known = list(names_in(ModelSettings))
        raise ModelSettingsError(f"{path}: {error}.{hint_for(error, known)}") from None
