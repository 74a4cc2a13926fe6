"""Commands that answer: `serve` over HTTP, `predict` in the terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from model_service.cli.terminal import (
    NOT_IN_ORDER,
    literal,
    say,
    say_json,
    say_plainly,
    say_table,
    stop,
)

if TYPE_CHECKING:
    from model_service.contract.rows import ReadRows
    from model_service.registry.loaded_version import LoadedVersion, Predictions
    from model_service.repository import Repository

PANEL = "Service"
SECONDS_FOR_THE_MONITOR = 30


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    app.command("serve", rich_help_panel=PANEL)(serve)
    app.command("predict", rich_help_panel=PANEL)(predict)
    app.command("api-key", rich_help_panel=PANEL)(api_key)


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Default: server.host of service.yaml.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free port.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer.")] = None,
    models: Annotated[
        str | None,
        typer.Option(envvar="MODELS", help="Serve these only, such as churn,prices. Default: all."),
    ] = None,
    stub: Annotated[
        bool, typer.Option("--stub", help="Answer from the contracts alone, before any training.")
    ] = False,
    with_monitor: Annotated[
        bool, typer.Option("--with-monitor", help="Run `monitor` as well, for a laptop.")
    ] = False,
) -> None:
    """Answer over HTTP: every version that traffic.yaml names."""
    from model_service import settings as of
    from model_service.serving.server import serve as run

    settings = of.read_settings(context.obj, os.environ)
    names = tuple(name.strip() for name in models.split(",") if name.strip()) if models else None
    stated = {"host": host, "port": port, "workers": workers, "models": names, "stub": stub or None}
    chosen = {name: value for name, value in stated.items() if value is not None}
    server = msgspec.structs.replace(settings.server, **chosen)
    with _monitor_beside(context.obj) if with_monitor else contextlib.nullcontext():
        run(msgspec.structs.replace(settings, server=server), context.obj)


@contextlib.contextmanager
def _monitor_beside(repository: Repository) -> Iterator[None]:
    """Run `monitor` as a process of its own, until the service has ended."""
    command = [sys.executable, "-m", "model_service", "--repository", str(repository.root)]
    # Of its own group, so that Ctrl-C reaches the service alone.
    monitor = subprocess.Popen([*command, "monitor"], start_new_session=True)  # noqa: S603
    try:
        yield
    finally:
        monitor.terminate()
        monitor.wait(SECONDS_FOR_THE_MONITOR)


def predict(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The model.")],
    row: Annotated[
        list[str] | None,
        typer.Option("--row", help="A row as JSON; may be repeated. Default: the examples."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Rows as a JSON list, JSON lines or CSV.", exists=True, dir_okay=False
        ),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Default: the champion.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Answer rows here, with the same code as the service and without HTTP."""
    from model_service.cli.version_commands import champion_of, registry_of
    from model_service.contract.examples import example_rows
    from model_service.registry.loaded_version import load_version

    repository: Repository = context.obj
    chosen = version or champion_of(repository, name)
    loaded = load_version(registry_of(repository).folder(name, chosen))
    rows = _stated_rows(row, file, loaded) or example_rows(loaded.contract)
    read = loaded.reader.read_rows(rows)
    predictions = loaded.predict(read.values) if read.values else None
    answers = _answers(read, predictions, loaded)
    if as_json:
        say_json({"model": name, "version": chosen, "rows": answers})
    else:
        _show_answers(f"{name} version {chosen}", loaded.contract.output.name, answers)
    if read.faults:
        raise SystemExit(NOT_IN_ORDER)


def api_key(
    caller: Annotated[str, typer.Argument(metavar="CALLER", help="Who will send it, such as web.")],
) -> None:
    """Make an API key for a caller: give the key away, put its digest into service.yaml."""
    from model_service.serving.api_keys import digest_of, new_key
    from model_service.settings import CallerName

    try:
        msgspec.convert(caller, CallerName)
    except msgspec.ValidationError:
        stop(f"{caller!r} is no caller's name: small letters, digits and hyphens, such as web.")
    key = new_key()
    say_plainly(f"""The key of {caller}, shown once and kept nowhere; send it over a safe way:

  {key}

Put its digest into service.yaml, where it may be committed, and start the service again:

  api_keys:
    {caller}: {digest_of(key)}""")


def _stated_rows(
    row: list[str] | None, file: Path | None, loaded: LoadedVersion
) -> list[dict[str, Any]]:
    try:
        rows = [msgspec.json.decode(text, type=dict[str, Any]) for text in row or []]
    except msgspec.MsgspecError as error:
        stop(f'--row must be a JSON object such as {{"feature": 1}}: {error}')
    return rows if file is None else rows + rows_of_file(file, loaded)


def rows_of_file(file: Path, loaded: LoadedVersion) -> list[dict[str, Any]]:
    """Read rows from a CSV, a JSON list or JSON lines; end the command if it holds none."""
    if file.suffix == ".csv":
        from model_service.contract.inference import read_table
        from model_service.contract.table import rows_of

        return rows_of(read_table(file), loaded.contract)
    try:
        return _rows_of_json(file.read_bytes())
    except msgspec.MsgspecError as error:
        stop(f"{file} must hold a JSON list of rows, or a row a line: {error}")


def _rows_of_json(content: bytes) -> list[dict[str, Any]]:
    if content.lstrip().startswith(b"["):
        return msgspec.json.decode(content, type=list[dict[str, Any]])
    return msgspec.json.Decoder(dict[str, Any]).decode_lines(content)


def _answers(
    read: ReadRows, predictions: Predictions | None, loaded: LoadedVersion
) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = [
        {"faults": read.faults.get(position, ())} for position in range(read.count)
    ]
    if predictions is None:
        return answers
    for index, position in enumerate(read.positions):
        answer: dict[str, Any] = {"value": predictions.values[index]}
        if predictions.probabilities is not None:
            shares = predictions.probabilities[index].tolist()
            answer["probabilities"] = dict(zip(loaded.contract.output.classes, shares, strict=True))
        answer["warnings"] = read.warnings.get(position, ())
        answers[position] = answer
    return answers


def _show_answers(title: str, output: str, answers: list[dict[str, Any]]) -> None:
    rows = []
    for number, answer in enumerate(answers):
        if "value" not in answer:
            faults = "\n".join(f"{f.pointer} {f.message}" for f in answer["faults"])
            rows.append((str(number), "[red]refused[/]", "", literal(faults)))
            continue
        shares = answer.get("probabilities", {})
        value = answer["value"]
        rows.append(
            (
                str(number),
                f"[bold]{literal(f'{value:.4g}' if isinstance(value, float) else value)}[/]",
                f"{shares[value]:.1%}" if value in shares else "",
                literal("\n".join(warning.message for warning in answer["warnings"])),
            )
        )
    say_table(("row", literal(output), "probability", "warnings"), rows, title=literal(title))
    if not rows:
        say("No rows.")
