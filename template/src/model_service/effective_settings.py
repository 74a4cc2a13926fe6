"""Every setting as it holds now, and where it comes from; secrets masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from model_service.files import read_yaml
from model_service.repository import Repository
from model_service.settings import read_settings, setting_names, variable_of

SECRET_NAMES = frozenset({"salt"})
MASK = "***"


class EffectiveSetting(msgspec.Struct, frozen=True):
    """A setting by its dotted path; `origin` is the file, a variable, or the default."""

    name: str
    value: Any
    origin: str
    kind: Literal["file", "environment", "default"]


def effective_settings(
    repository: Repository, environ: Mapping[str, str]
) -> list[EffectiveSetting]:
    """Return every setting with its value and origin.

    Raises:
        SettingsError: the settings are not understood.
    """
    settings = read_settings(repository, environ)
    stated = read_yaml(repository.service_file)
    found = []
    for name in setting_names():
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        shown = msgspec.to_builtins(_masked(name.rpartition(".")[2], value))
        if variable_of(name) in environ:
            found.append(EffectiveSetting(name, shown, variable_of(name), "environment"))
        elif _is_stated(stated, name.split(".")):
            file = repository.service_file.name
            found.append(EffectiveSetting(name, shown, file, "file"))
        else:
            found.append(EffectiveSetting(name, shown, "default", "default"))
    return found


def masked(text: str) -> str:
    """Return text, such as a URL, without the passwords in it, and without the tokens that stand
    as a user's name where addresses of other kinds name a container or an account.

    A password may hold what should have been encoded: it ends at the last `@` of the word.
    """
    port = r"\d{1,5}(?![^/?#\s])"
    without = re.sub(rf"(://[^/:@\s]*):(?!{port})\S*@", rf"\1:{MASK}@", text)
    without = re.sub(r"\b((?:https?|postgres(?:ql)?)://)[^/:@?#\s]+@", rf"\1{MASK}@", without)
    return re.sub(r"((?:password|secret|token|key)=)[^&\s]+", rf"\1{MASK}", without, flags=re.I)


def _masked(leaf: str, value: Any) -> Any:
    if leaf in SECRET_NAMES:
        return MASK if value else value
    if leaf == "api_keys":
        return {caller: f"{digest[:15]}…" for caller, digest in value.items()}
    return masked(value) if isinstance(value, str) else value


def _is_stated(stated: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(stated, dict) or part not in stated:
            return False
        stated = stated[part]
    return True
