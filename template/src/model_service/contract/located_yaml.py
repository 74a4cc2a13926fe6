"""YAML whose values remember the line that they stand on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from model_service.contract.faults import ContractError, ContractFault

LARGEST_FILE = 2_000_000
DEEPEST = 12
Where = tuple[str | int, ...]
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class LocatedYaml:
    """A YAML document: its `value`, and the line of each part by its path of keys and indices.

    Dates stay text, as they are in JSON. A key that stands twice is a fault.
    """

    def __init__(self, text: str, path: Path) -> None:
        """Read the document.

        Raises:
            ContractError: it is no YAML, or too large or too deep to be meant seriously.
        """
        self.path = path
        self.faults: list[ContractFault] = []
        self._lines: dict[Where, int] = {}
        self._constructor = yaml.constructor.SafeConstructor()
        if len(text) > LARGEST_FILE:
            cure = "Long lists of categories are better strings."
            raise ContractError([ContractFault(path, 1, "", "The file is over 2 MB.", cure)])
        try:
            node = yaml.compose(text, Loader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            problem = f"This is no YAML: {error.problem or error.context}."
            cure = "Mind the indentation, the colons, and quotes around text with special signs."
            raise ContractError([ContractFault(path, line, "", problem, cure)]) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ContractError([ContractFault(path, 1, "", f"No YAML: {error}", "")]) from None
        self.value = None if node is None else self._value(node, ())

    def line(self, where: Where) -> int:
        """Return the line of a part, or of the nearest part around it."""
        while where and where not in self._lines:
            where = where[:-1]
        return self._lines.get(where, 1)

    def fault(self, where: Where, message: str, cure: str = "") -> None:
        """Note a fault at a part."""
        field = ".".join(map(str, where))
        self.faults.append(ContractFault(self.path, self.line(where), field, message, cure))

    def _value(self, node: Any, where: Where) -> Any:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if len(where) > DEEPEST:
            line = self.line(where)
            cure = f"No contract needs more than {DEEPEST} levels."
            raise ContractError([ContractFault(self.path, line, "", "Nested too deeply.", cure)])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*where, i)) for i, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError):
            self.fault(where, f"{node.value!r} is not understood.", "Put it in quotes.")
            return None

    def _mapping(self, node: Any, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            inner = (*where, key)
            line = key_node.start_mark.line + 1
            if key in found:
                self.faults.append(
                    ContractFault(
                        self.path,
                        line,
                        ".".join(map(str, inner)),
                        f"{key!r} stands here a second time.",
                        f"Keep one; the other is on line {self._lines[inner]}.",
                    )
                )
                continue
            self._lines[inner] = line
            found[key] = self._value(value_node, inner)
        return found


def check_keys(
    document: LocatedYaml, where: Where, stated: dict[str, Any], known: Iterable[str]
) -> None:
    """Note a fault for every key that is not known here."""
    names = list(known)
    for key in stated:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            cure = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(names)}."
            document.fault((*where, key), f"{key!r} is not known.", cure)


def text_of(document: LocatedYaml, where: Where, stated: dict[str, Any], key: str) -> str:
    """Return a text that must be there and must not be empty."""
    value = stated.get(key)
    if isinstance(value, str) and value.strip():
        return value.strip()
    problem = "is missing." if key not in stated else f"must be text, not {value!r}."
    document.fault((*where, key), f"{key} {problem}", "Say it in a sentence for other teams.")
    return ""
