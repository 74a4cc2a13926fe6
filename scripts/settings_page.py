"""Write `template/docs/settings.md`: every setting, from the code that reads it."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from model_service.settings import Settings, variable_of

PAGE = Path(__file__).parent.parent / "template/docs/settings.md"
HEAD = """\
# Settings

Every setting of `service.yaml`. Each can be overridden by its variable: for containers, for
secrets, for one run. A name that does not exist is refused in both places, with the one that was
meant. `doctor` prints the values that hold and where each comes from, with secrets masked. What
is declared of one model, such as its expected traffic, is in `models/<name>/model.yaml`.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *_section(Settings, "The service", "")])


def _section(struct: type[msgspec.Struct], title: str, above: str) -> Iterator[str]:
    hints = get_type_hints(struct, include_extras=True)
    fields = [f for f in msgspec.structs.fields(struct) if not _is_struct(hints[f.name])]
    yield f"## {title}\n"
    yield f"{inspect.cleandoc(struct.__doc__ or '')}\n"
    yield "| Setting | Value | Default | Variable |"
    yield "|---|---|---|---|"
    for field in fields:
        name = above + field.encode_name
        cells = (f"`{name}`", _kind(hints[field.name]), _default(field), f"`{variable_of(name)}`")
        yield f"| {' | '.join(cells)} |"
    yield ""
    for field in msgspec.structs.fields(struct):
        if _is_struct(hints[field.name]):
            path = f"{above}{field.encode_name}"
            yield from _section(hints[field.name], f"`{path}`", f"{path}.")


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _default(field: Any) -> str:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return "needed"
    return f"`{msgspec.json.encode(value).decode()}`"


def _kind(hint: Any) -> str:
    """Return in words what a value may be."""
    if get_origin(hint) is Annotated:
        base, *rest = get_args(hint)
        return _kind(base) + "".join(_bounds(one) for one in rest if isinstance(one, msgspec.Meta))
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_kind(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"mapping of {_kind(get_args(hint)[0])} to {_kind(get_args(hint)[1])}"
    if get_args(hint):
        return " or ".join(_kind(one) for one in get_args(hint))
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    names["NoneType"] = "null"
    return names.get(str(hint.__name__), str(hint.__name__))


def _bounds(meta: msgspec.Meta) -> str:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    said = [f" {sign} {getattr(meta, name):g}" for name, sign in signs if _has(meta, name)]
    return ",".join(said) + (f" like `{meta.pattern}`" if meta.pattern else "")


def _has(meta: msgspec.Meta, name: str) -> bool:
    return getattr(meta, name) is not None


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
