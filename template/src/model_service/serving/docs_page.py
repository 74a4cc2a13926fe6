"""The documentation page of a running service: one HTML file that needs no network.

Everything on it is made from the contracts of the versions that answer, and from the catalogue of
problems, so that it cannot disagree with the service.
"""

from __future__ import annotations

import shlex
from html import escape
from typing import Any

import msgspec

from model_service.contract.contract import Contract, Feature, Policy
from model_service.contract.examples import example_answer, example_rows
from model_service.serving.docs_style import STYLE
from model_service.serving.loaded_models import LoadedModels, ModelState
from model_service.serving.problems import PROBLEMS
from model_service.settings import Settings


def example_body(contract: Contract) -> dict[str, Any]:
    """Return a body that the model takes."""
    return {"rows": example_rows(contract)[:1]}


def index_page(settings: Settings, models: LoadedModels) -> str:
    """Return the small page at `/`."""
    items = "".join(
        f'<li><a href="/docs#model-{escape(model.name)}">{escape(model.name)}</a> {_badge(model)}'
        for model in models.models.values()
    )
    body = (
        f"<header><h1>{escape(settings.title or settings.name)}</h1>"
        f"<p>{escape(settings.description)}</p></header><main><section><h2>Models</h2>"
        f"<ul>{items or '<li>none yet'}</ul></section><section><h2>Addresses</h2>{_addresses()}"
        "</section></main>"
    )
    return _html(settings, body)


def docs_page(settings: Settings, models: LoadedModels) -> str:
    """Return the page at `/docs`."""
    names = [model.name for model in models.models.values()]
    links = "".join(f'<a href="#model-{escape(n)}">{escape(n)}</a>' for n in names)
    about = f"<p>{escape(settings.description)}</p>" if settings.description else ""
    owners = ", ".join(filter(None, (settings.team, *settings.owners)))
    body = (
        f"<header><h1>{escape(settings.title or settings.name)}</h1>{about}"
        f'<p class="quiet">Owned by {escape(owners) or "nobody yet"}</p>'
        f'<nav>{links}<a href="#answers">answers</a><a href="#problems">errors</a>'
        '<a href="#addresses">addresses</a><a href="/openapi.json">openapi.json</a></nav></header>'
        f"<main>{''.join(_model(model) for model in models.models.values())}"
        f"{_ANSWERS}{_problems()}"
        f'<section id="addresses"><h2>Addresses</h2>{_addresses()}</section></main>'
    )
    return _html(settings, body)


def _html(settings: Settings, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(settings.title or settings.name)}</title>"
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head><body>{body}</body></html>'
    )


def _badge(model: ModelState) -> str:
    champion = model.champion
    number = f" · version {escape(champion.version)}" if champion else ""
    return f'<span class="badge {model.state}">{model.state}{number}</span>'


def _model(model: ModelState) -> str:
    name = escape(model.name)
    heading = f'<section id="model-{name}"><h2>{name} {_badge(model)}</h2>'
    champion = model.champion
    if champion is None or champion.served is None:
        reason = (champion and champion.reason) or model.reason or "It is loading; reload the page."
        return f"{heading}<p>{escape(reason)}</p></section>"
    contract = champion.served.loaded.contract
    others = "".join(
        f"<li><code>/v1/models/{name}/versions/{escape(v.version)}/predict</code> {v.state}"
        for v in model.versions.values()
        if v.state != "not_served"
    )
    return (
        f"{heading}<p>{escape(contract.description)}</p><h3>Features</h3>{_features(contract)}"
        f"<p>{_unknown_fields(contract)}</p><h3>Answer</h3>{_output(contract)}"
        f"<h3>Try it</h3>{_try_it(contract)}"
        f"<details><summary>Versions by number</summary><ul>{others}</ul></details></section>"
    )


def _features(contract: Contract) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(feature.name)}</code><br>"
        f'<span class="quiet">{escape(feature.description)}</span></td>'
        f"<td>{escape(_type_of(feature))}</td><td>{escape(_range_of(feature))}</td>"
        f"<td>{_policies(feature)}</td></tr>"
        for feature in contract.features
    )
    return (
        '<div class="wide"><table><thead><tr><th>Feature<th>Type<th>Values<th>Dirty values</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _type_of(feature: Feature) -> str:
    return f"{feature.type}, {feature.unit}" if feature.unit else feature.type


def _range_of(feature: Feature) -> str:
    if feature.categories:
        return ", ".join(feature.categories)
    parts = []
    if feature.length is not None:
        parts.append(f"{feature.length} numbers")
    if feature.max_length is not None:
        parts.append(f"at most {feature.max_length} characters")
    if feature.minimum is not None or feature.maximum is not None:
        low = "…" if feature.minimum is None else str(feature.minimum)
        high = "…" if feature.maximum is None else str(feature.maximum)
        parts.append(f"{low} to {high}")
    return ", ".join(parts) or "any"


def _policies(feature: Feature) -> str:
    stated = [("missing", feature.on_missing)]
    if feature.type == "category":
        stated.append(("unknown", feature.on_unknown))
    if feature.minimum is not None or feature.maximum is not None:
        stated.append(("out of range", feature.on_out_of_range))
    return "<br>".join(f"{name}: <b>{escape(_words_of(policy))}</b>" for name, policy in stated)


def _words_of(policy: Policy) -> str:
    words = {
        "reject": "row refused",
        "pass": "passed to the model",
        "clip": "moved to the limit",
        "impute": f"replaced by {policy.value}",
        "map_to": f"taken as {policy.value}",
    }
    return words[policy.action]


def _unknown_fields(contract: Contract) -> str:
    if contract.unknown_fields == "ignore":
        return "Fields that are not listed are ignored, with a warning."
    return "A row with a field that is not listed is refused."


def _output(contract: Contract) -> str:
    output = contract.output
    unit = f", {output.unit}" if output.unit else ""
    parts = [f"<code>{escape(output.name)}</code> ({output.type}{escape(unit)}):"]
    parts.append(escape(output.meaning))
    if output.classes:
        parts.append(f"Classes: {escape(', '.join(output.classes))}.")
    if output.thresholds:
        stated = ", ".join(f"{name} from {limit:g}" for name, limit in output.thresholds.items())
        by = f" (decided by {output.decided_by})" if output.decided_by else ""
        parts.append(f"Thresholds: {escape(stated + by)}.")
    return f"<p>{' '.join(parts)}</p>"


def _try_it(contract: Contract) -> str:
    body = msgspec.json.encode(example_body(contract)).decode()
    command = (
        f"curl -s http://HOST/v1/models/{contract.name}/predict \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    )
    answer = msgspec.json.format(msgspec.json.encode(_example_answer(contract)), indent=2).decode()
    return (
        f"<pre>{escape(command)}</pre><p>Such an answer comes back (the values are made up):</p>"
        f"<pre>{escape(answer)}</pre>"
    )


def _example_answer(contract: Contract) -> dict[str, Any]:
    made_up = example_answer(contract)
    row: dict[str, Any] = {"prediction_id": "5f1c0a9be2d4-1", "value": made_up.value}
    if made_up.probabilities is not None:
        row["probabilities"] = made_up.probabilities
    row["warnings"] = []
    return {
        "model": contract.name,
        "version": "1",
        "alias": "champion",
        "request_id": "5f1c0a9be2d4-2",
        "rows": [row],
    }


def _problems() -> str:
    rows = "".join(
        f'<tr id="problem-{slug}"><td><code>/docs#problem-{slug}</code></td><td>{kind.status}</td>'
        f"<td>{escape(kind.title)}</td><td>{escape(kind.cure)}</td>"
        f"<td>{'yes' if kind.retry else 'no'}</td></tr>"
        for slug, kind in PROBLEMS.items()
    )
    return (
        '<section id="problems"><h2>Errors</h2><p>Every error has one shape, '
        "<code>application/problem+json</code> (RFC 9457): <code>type</code>, <code>title</code>, "
        "<code>status</code>, <code>detail</code>, <code>request_id</code> and "
        "<code>faults</code>, each with a JSON pointer into the body that was sent. A "
        "<code>type</code> never changes: let programs tell errors apart by it.</p>"
        '<div class="wide"><table><thead><tr><th>Type<th>Status<th>What it means<th>What to do'
        f"<th>Send again?</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


_ANSWERS = """<section id="answers"><h2>Answers</h2>
<p>Rows are answered one by one, in the order of the request: a row that is refused has
<code>error</code> in the place of <code>value</code>, and its neighbours are answered all the same.
Only when no row has an answer is the whole answer an error. <code>warnings</code> tells what a
policy did to a dirty value. Every answer carries the header <code>X-Request-Id</code>: yours, if
you sent one of up to 128 letters, digits and <code>. _ : -</code>.</p></section>"""

_ADDRESSES = (
    ("POST /v1/models/{model}/predict", "the champion's answers"),
    ("POST /v1/models/{model}/versions/{version or alias}/predict", "those of one version"),
    ("GET /v1/models", "models, versions, aliases, their state and why"),
    ("GET /v1/models/{model}", "the same of one model"),
    ("GET /openapi.json", "OpenAPI 3.1, typed for each model"),
    ("GET /livez", "200 while the process runs"),
    ("GET /readyz", "200 when every champion is loaded and has replayed its golden predictions"),
    ("GET /metrics", "Prometheus"),
)


def _addresses() -> str:
    rows = "".join(
        f"<tr><td><code>{escape(address)}</code></td><td>{escape(what)}</td></tr>"
        for address, what in _ADDRESSES
    )
    return (
        f'<p><a href="/docs">Documentation</a></p><div class="wide"><table><tbody>{rows}'
        "</tbody></table></div>"
    )
