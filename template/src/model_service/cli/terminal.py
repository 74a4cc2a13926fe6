"""What the commands print: tables, states and errors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

DONE = 0
NOT_IN_ORDER = 1
CANNOT_RUN = 2
START_ONE = "new NAME --data your.csv --target COLUMN"
EXIT_CODES = """\
Exit codes: 0 done and in order; 1 done, and something is not in order (a fault in a contract, \
a gate that was missed, an answer that changed, a conflict); 2 it could not run (the message says \
why and what to do)."""


def say(text: str = "") -> None:
    """Print text with Rich markup."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text)


def command_line(words: str) -> str:
    """Return what to type next, under the name that the service's command was called by."""
    called = Path(sys.argv[0]).name
    return f"`{'python -m model_service' if called == '__main__.py' else called} {words}`"


def say_plainly(text: str) -> None:
    """Print text as it is, such as JSON for another program."""
    sys.stdout.write(text + "\n")


def say_json(answer: object) -> None:
    """Print what a program may read."""
    say_plainly(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())


def say_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table; cells may hold Rich markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*headings, box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def literal(text: object) -> str:
    """Return text whose square brackets are no markup."""
    from rich.markup import escape

    return escape(str(text))


def state(good: bool | None) -> str:
    """Return the mark of a thing in order, not in order, or worth a look (None)."""
    if good is None:
        return "[yellow]![/]"
    return "[green]✓[/]" if good else "[red]✗[/]"


def stop(message: str, exit_code: int = CANNOT_RUN) -> NoReturn:
    """Print an error for the person who reads it, and end the command."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/] {literal(message)}"
    )
    raise SystemExit(exit_code)
