"""`loadtest`: how much load the service takes within its SLO, and how many replicas that means."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import (
    NOT_IN_ORDER,
    literal,
    say,
    say_json,
    say_table,
    state,
    stop,
)
from model_service.cli.version_commands import AsJson, champion_of

if TYPE_CHECKING:
    from model_service.handoff.load_evidence import LoadEvidence, Step
    from model_service.handoff.load_test import Plan, Processor
    from model_service.repository import Repository
    from model_service.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("loadtest", rich_help_panel="Service")(loadtest)


def loadtest(
    context: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all that answer.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A service that runs. Default: one process of it, here."),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows in a request.")] = 1,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.2, help="How long each number of callers asks.")
    ] = 3.0,
    most_callers: Annotated[
        int, typer.Option("--most-callers", min=1, max=4096, help="Never more than so many.")
    ] = 256,
    headroom: Annotated[
        float, typer.Option("--headroom", min=0, help="1 is room for twice the declared peak.")
    ] = 1.0,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="MODEL_SERVICE_KEY", help="For a --url.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask with 1, 2, 4, … callers at once until the SLO breaks; never a service in production.

    The rows are the examples of the contracts, and what a service answers is in its prediction
    log. At most two rounds of --seconds for each doubling of callers and model.
    """
    from model_service.handoff.load_evidence import write_load_evidence
    from model_service.handoff.load_test import Plan, load_test, memory_of
    from model_service.registry.registry import Registry
    from model_service.registry.traffic import read_traffic
    from model_service.settings import read_settings

    repository: Repository = context.obj
    settings = read_settings(repository, os.environ)
    traffic = read_traffic(repository.traffic).models
    names = models or [name for name, entry in traffic.items() if entry.champion]
    champions = {name: champion_of(repository, name) for name in names}
    if not champions:
        stop("No model has a champion to test. Train one first.")
    if url is not None and not url.startswith(("http://", "https://")):
        stop(f"{url!r} is no address: http://host:port.")
    registry = Registry(repository.root / settings.stores.registry)
    folders = [registry.folder(name, version) for name, version in champions.items()]
    plan = Plan(rows=rows, seconds=seconds, most_callers=most_callers, headroom=headroom)
    headers = [("authorization", f"Bearer {api_key}")] if api_key else []
    if not as_json:
        _say_plan(settings, plan)
    with _service(repository, url) as (target, processor):
        evidence = load_test(
            repository,
            settings,
            champions,
            target,
            plan,
            (lambda _model, _step: None) if as_json else _say_step,
            headers=headers,
            processor=processor,
            memory=dict(zip(champions, memory_of(folders), strict=True)),
        )
    path = write_load_evidence(repository, evidence)
    if as_json:
        say_json(evidence)
    else:
        _say_result(evidence)
        say(f"Evidence for the handoff: {literal(path.relative_to(repository.root))}")
    if evidence.replicas is None:
        raise SystemExit(NOT_IN_ORDER)


@contextmanager
def _service(repository: Repository, url: str | None) -> Iterator[tuple[str, Processor]]:
    """Give the address to ask; without one, start a process whose prediction log is thrown away."""
    if url is not None:
        yield url.rstrip("/"), lambda: None
        return
    from model_service.handoff.load_test import processor_seconds
    from model_service.handoff.running_service import RunningService

    with tempfile.TemporaryDirectory() as folder:
        settings = {"MODEL_SERVICE_STORES__PREDICTION_LOG": folder, "MODEL_SERVICE_API_KEYS": "{}"}
        service = RunningService(repository.root, settings=settings)
        try:
            service.wait_until_loaded()
            yield f"http://127.0.0.1:{service.port}", lambda: processor_seconds(service.pid)
        finally:
            service.stop()


def _say_plan(settings: Settings, plan: Plan) -> None:
    slo = settings.slo
    say(
        f"SLO: {slo.availability:.3%} answered, {slo.latency_share:.2%} of them within "
        f"{slo.latency_milliseconds:g} ms. {plan.rows} row(s) a request."
    )


def _say_step(model: str, step: Step) -> None:
    cost = f", {step.cpu_milliseconds:.3f} ms of a core each" if step.cpu_milliseconds else ""
    say(
        f"  {state(step.keeps_slo)} {literal(model)}: {step.callers:>4} callers, "
        f"{step.requests_per_second:>8.0f} requests/s, p99 {step.p99_milliseconds:.1f} ms, "
        f"{step.answered:.2%} answered{cost}"
    )


def _megabytes(memory: int | None) -> str:
    if memory is None:
        return "?"
    return "under 1 MB" if memory < 1e6 else f"{memory / 1e6:.0f} MB"


def _say_result(evidence: LoadEvidence) -> None:
    say_table(
        ("model", "version", "within SLO", "per core", "memory", "peak"),
        [
            (
                literal(m.model),
                m.version,
                f"{m.requests_per_second:.0f}/s",
                "?" if m.per_core is None else f"{m.per_core:.0f}/s",
                _megabytes(m.memory_bytes),
                f"{m.peak_requests_per_second:g}/s",
            )
            for m in evidence.models
        ],
    )
    if evidence.replicas is None:
        say(f"{state(False)} A model does not keep the SLO with one caller at a time.")
        return
    more = " Run two, so that one may be lost." if evidence.replicas == 1 else ""
    say(
        f"{state(True)} {evidence.replicas} replica(s) answer {1 + evidence.headroom:g} times the "
        f"declared peak of all models at once.{more}"
    )
