"""The names of settings, and which one was meant by a name that does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

import msgspec


def names_in(struct: type[msgspec.Struct], above: str = "") -> Iterator[str]:
    """Yield every setting below `struct` by its dotted path, such as `limits.body_bytes`."""
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from names_in(field.type, f"{above}{field.encode_name}.")
        else:
            yield above + field.encode_name


def hint_for(error: msgspec.ValidationError, known: Sequence[str]) -> str:
    """Return what was meant by the unknown field of an error; nothing for any other error."""
    message = str(error)
    found = re.search(r"unknown field `([^`]*)`(?: - at `\$\.?([^`]*)`)?", message)
    if found is None:
        return ""
    name, place = found.groups()
    beside = [one for one in known if place and one.startswith(f"{place}.")]
    return did_you_mean(name, beside) if beside else did_you_mean(name, known)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a sentence with the name that is most like `word`, or with all names."""
    bare = {name.rpartition(".")[2]: name for name in reversed(known)}
    close = difflib.get_close_matches(word, [*known, *bare], n=1, cutoff=0.5)
    if close:
        return f" Did you mean {bare.get(close[0], close[0])}?"
    return f" Known: {', '.join(known)}."
