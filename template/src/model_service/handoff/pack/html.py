"""Pieces of a page. Text is escaped when it becomes a piece; a piece never is again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("page.css")


class Piece(str):
    """Finished HTML."""

    __slots__ = ()


def piece(text: object) -> Piece:
    """Return text as HTML; what stands between backticks is code."""
    if isinstance(text, Piece):
        return text
    return Piece(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(str(text), quote=False)))


def joined(parts: Iterable[object], between: str = "") -> Piece:
    """Return pieces in a row."""
    return Piece(between.join(map(piece, parts)))


def paragraph(*parts: object) -> Piece:
    """Return a paragraph."""
    return Piece(f"<p>{joined(parts, ' ')}</p>")


def note(text: object) -> Piece:
    """Return something that nobody must miss, such as what is not decided yet."""
    return Piece(f'<p class="note">{piece(text)}</p>')


def bullets(items: Iterable[object], kind: str = "ul") -> Piece:
    """Return a list; `ol` numbers it."""
    return Piece(f"<{kind}>{''.join(f'<li>{piece(item)}' for item in items)}</{kind}>")


def block(text: str, what: str = "") -> Piece:
    """Return text to copy, such as a command; `what` says what it is."""
    caption = f"<figcaption>{piece(what)}</figcaption>" if what else ""
    return Piece(f"<figure>{caption}<pre>{escape(text, quote=False)}</pre></figure>")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Piece:
    """Return a table whose first column names what the row is about."""
    head = "".join(f"<th>{piece(heading)}" for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{piece(first)}{"".join(f"<td>{piece(cell)}" for cell in rest)}'
        for first, *rest in rows
    )
    return Piece(f'<div class="wide"><table><thead><tr>{head}<tbody>{body}</table></div>')


def section(title: str, *parts: object) -> Piece:
    """Return a section; the navigation of the page leads to it."""
    return Piece(f'<section id="{_anchor(title)}"><h2>{piece(title)}</h2>{joined(parts)}</section>')


def subsection(title: object, *parts: object) -> Piece:
    """Return a part of a section."""
    return Piece(f"<h3>{piece(title)}</h3>{joined(parts)}")


def page(
    service: str, audience: str, lead: str, sections: Sequence[Piece], made_from: str
) -> bytes:
    """Return a whole page: no script, and nothing that is loaded from elsewhere."""
    titles = [re.search(r"<h2>(.*?)</h2>", each) for each in sections]
    links = "".join(f'<a href="#{_anchor(t[1])}">{t[1]}</a>' for t in titles if t)
    name = escape(service, quote=False)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name} for {audience}</title>"
        f'<link rel="icon" href="data:,"><style>{STYLE.read_text(encoding="utf-8")}</style></head>'
        f'\n<body><header><p class="for">{name}</p><h1>For {audience}</h1>'
        f'<p class="lead">{piece(lead)}</p></header><nav>{links}</nav>\n<main>'
        + "\n".join(sections)
        + f"</main>\n<footer>{piece(made_from)}</footer></body></html>\n"
    ).encode()


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub("<.*?>", "", title).lower()).strip("-")
