"""A running service does what `traffic.yaml` says, from one request to the next."""

from __future__ import annotations

import concurrent.futures
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from model_service.contract.contract import Policy
from model_service.contract.rows import RowReader
from model_service.registry.traffic import canary, promote, shadow
from model_service.serving.routing import Routing
from model_service.serving.row_answers import RowAnswer
from model_service.serving.shadow import Asked, Shadow
from tests.platform.serving.server_process import ServerProcess, stub_server
from tests.platform.serving.stub_service import SUMS, StubVersion

ROW = {"a": 1, "b": 2, "how": "well"}
VALUES = {"1": 3.0, "2": 3.0, "3": 1003.0}
SECONDS_TO_FOLLOW = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with stub_server(tmp_path) as started:
        yield started


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    return tmp_path / "traffic.yaml"


def answer(server: ServerProcess, entity: str | None = None, version: str = "") -> Any:
    path = f"/v1/models/sums{f'/versions/{version}' if version else ''}/predict"
    body = {"rows": [ROW], **({"entity": entity} if entity else {})}
    return server.client.post(path, json=body).json()


def model(server: ServerProcess, name: str = "sums") -> Any:
    return server.client.get(f"/v1/models/{name}").json()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_FOLLOW
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS_TO_FOLLOW} seconds: {what}"
        time.sleep(0.02)


def metric(server: ServerProcess, line: str) -> float:
    for found in server.client.get("/metrics").text.splitlines():
        if found.startswith(f"{line} "):
            return float(found.rpartition(" ")[2])
    return 0.0


def test_a_promoted_version_takes_over_and_no_request_is_lost_or_mixed(
    server: ServerProcess, traffic: Path
) -> None:
    stop = time.monotonic() + 3.0

    def ask_all_the_time() -> list[tuple[int, str, float]]:
        seen = []
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            while time.monotonic() < stop:
                got = client.post("/v1/models/sums/predict", json={"rows": [ROW]})
                content = got.json()
                seen.append((got.status_code, content["version"], content["rows"][0]["value"]))
        return seen

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_all_the_time) for _ in range(4)]
        for version in ("3", "2", "3"):
            promote(traffic, "sums", version, by="anna")
            wait_for(lambda v=version: model(server)["aliases"]["champion"] == v, version)  # type: ignore[misc]
        answers = [seen for future in asking for seen in future.result()]
    assert len(answers) > 100
    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == {"2", "3"}
    assert all(value == VALUES[version] for _, version, value in answers)


def test_a_version_that_is_named_no_more_is_no_longer_served(
    server: ServerProcess, traffic: Path
) -> None:
    promote(traffic, "sums", "3", by="anna")
    wait_for(lambda: answer(server)["version"] == "3", "the new champion")
    assert answer(server, version="2")["type"].endswith("version-not-found")
    assert answer(server, version="1")["version"] == "1", "pinned versions stay"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {sums: {champoin: '3'}}", "champoin"),
        ("models: [", "cannot be read"),
        ("", "no champion any more"),
        ("models: {}", "no champion any more"),
    ],
)
def test_a_file_that_is_not_understood_changes_nothing(
    server: ServerProcess, traffic: Path, text: str, said: str
) -> None:
    before = traffic.read_text(encoding="utf-8")
    assert metric(server, "model_service_follows_traffic") == 1
    traffic.write_text(text, encoding="utf-8")
    wait_for(lambda: server.client.get("/v1/models").json()["traffic_fault"] is not None, "fault")
    assert said in server.client.get("/v1/models").json()["traffic_fault"]
    assert metric(server, "model_service_follows_traffic") == 0
    assert answer(server)["version"] == "2"
    assert server.client.get("/readyz").status_code == 200
    traffic.write_text(before.replace('champion: "2"', 'champion: "3"'), encoding="utf-8")
    wait_for(lambda: answer(server)["version"] == "3", "the mended file")
    assert metric(server, "model_service_follows_traffic") == 1


def test_a_champion_that_does_not_load_never_replaces_one_that_answers(
    server: ServerProcess, traffic: Path
) -> None:
    promote(traffic, "sums", "4", by="anna")
    wait_for(lambda: bool(model(server)["reason"]), "the reason")
    found = model(server)
    assert found["aliases"]["champion"] == "2"
    assert "version 4 as champion" in found["reason"]
    assert "not the file that was trained" in found["reason"]
    assert {v["version"]: v["state"] for v in found["versions"]}["4"] == "failed"
    assert answer(server)["version"] == "2"
    assert server.client.get("/readyz").status_code == 200


def test_a_new_model_that_does_not_load_takes_no_replica_from_the_others(
    server: ServerProcess, traffic: Path
) -> None:
    before = traffic.read_text(encoding="utf-8")
    traffic.write_text(before + '  broken: {champion: "1"}\n', encoding="utf-8")
    wait_for(lambda: bool(model(server, "broken").get("reason")), "the reason")
    for path in ("/readyz", "/v2/health/ready"):
        assert server.client.get(path).status_code == 200
    assert model(server, "broken")["state"] == "failed"
    promote(traffic, "sums", "3", by="anna")
    wait_for(lambda: answer(server)["version"] == "3", "the next change")
    assert server.client.get("/readyz").status_code == 200


def test_a_model_that_was_trained_meanwhile_begins_to_answer(
    server: ServerProcess, traffic: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "registry/kinds/2"
    folder.mkdir()
    (folder / "manifest.json").touch()
    promote(traffic, "kinds", "2", by="anna")
    wait_for(lambda: model(server, "kinds")["aliases"]["champion"] == "2", "the new version")


def test_a_challenger_answers_its_share_of_the_entities_and_keeps_them(
    server: ServerProcess, traffic: Path
) -> None:
    entities = [f"customer {number}" for number in range(400)]
    canary(traffic, "sums", "3", 20, by="anna")
    wait_for(lambda: model(server)["challengers"] == {"3": 20}, "the canary")
    first = {entity: answer(server, entity) for entity in entities}
    chosen = {entity for entity, got in first.items() if got["version"] == "3"}
    assert 50 <= len(chosen) <= 110
    assert {got["alias"] for got in first.values()} == {"champion", "challenger"}
    assert all(got["rows"][0]["value"] == VALUES[got["version"]] for got in first.values())
    assert {e for e in entities if answer(server, e)["version"] == "3"} == chosen

    canary(traffic, "sums", "3", 50, by="anna")
    wait_for(lambda: model(server)["challengers"] == {"3": 50}, "the larger share")
    more = {entity for entity in entities if answer(server, entity)["version"] == "3"}
    assert chosen < more
    assert 160 <= len(more) <= 240

    canary(traffic, "sums", "3", 0, by="anna")
    wait_for(lambda: model(server)["challengers"] == {}, "the end of it")
    assert {answer(server, entity)["version"] for entity in entities[:50]} == {"2"}


def test_without_an_entity_requests_are_shared_out_one_by_one(
    server: ServerProcess, traffic: Path
) -> None:
    canary(traffic, "sums", "3", 30, by="anna")
    wait_for(lambda: model(server)["challengers"] == {"3": 30}, "the canary")
    counted = Counter(answer(server)["version"] for _ in range(500))
    assert 95 <= counted["3"] <= 210
    assert counted["2"] + counted["3"] == 500


def test_who_names_a_version_gets_it_whatever_the_shares(
    server: ServerProcess, traffic: Path
) -> None:
    canary(traffic, "sums", "3", 100, by="anna")
    wait_for(lambda: model(server)["challengers"] == {"3": 100}, "the canary")
    assert answer(server)["version"] == "3"
    for wanted, version in (("champion", "2"), ("challenger", "3"), ("1", "1"), ("2", "2")):
        assert answer(server, version=wanted)["version"] == version


def test_a_body_that_cannot_be_read_is_refused_as_ever(
    server: ServerProcess, traffic: Path
) -> None:
    canary(traffic, "sums", "3", 100, by="anna")
    wait_for(lambda: model(server)["challengers"] == {"3": 100}, "the canary")
    for body in (b"", b"{", b'{"rows": [], "entity": 7}', b"[" * 100_000, b'{"entity": "\xff"}'):
        got = server.client.post(
            "/v1/models/sums/predict", content=body, headers={"content-type": "application/json"}
        )
        assert got.status_code == 400, body[:20]


def test_the_share_of_a_challenger_that_does_not_load_stays_with_the_champion(
    server: ServerProcess, traffic: Path
) -> None:
    canary(traffic, "sums", "4", 100, by="anna")
    wait_for(lambda: model(server)["challengers"] == {"4": 100}, "the canary")
    assert answer(server)["version"] == "2"
    assert server.client.get("/readyz").status_code == 200


def shadow_rows(server: ServerProcess, version: str, outcome: str) -> float:
    labels = f'model="sums",outcome="{outcome}",version="{version}"'
    return metric(server, f"model_service_shadow_rows_total{{{labels}}}")


def test_a_shadow_is_compared_and_answers_nobody(server: ServerProcess, traffic: Path) -> None:
    shadow(traffic, "sums", "3", by="anna")
    shadow(traffic, "sums", "1", by="anna")
    wait_for(lambda: set(model(server)["shadows"]) == {"1", "3"}, "the shadows")
    for _ in range(20):
        got = answer(server)
        assert (got["version"], got["rows"][0]["value"]) == ("2", 3.0)
    wait_for(lambda: shadow_rows(server, "3", "differs") == 20, "differing rows")
    wait_for(lambda: shadow_rows(server, "1", "agrees") == 20, "agreeing rows")
    wait_for(lambda: any(line["body"] == "shadow differs" for line in server.log), "its line")
    line = next(line for line in server.log if line["body"] == "shadow differs")
    assert (line["ml.model.version"], line["ml.rows"]) == ("3", 1)
    labels = 'model="sums",outcome="ok",version="3"'
    assert metric(server, f"model_service_predictions_total{{{labels}}}") == 0


def test_a_slow_or_failing_shadow_delays_and_fails_nobody(
    server: ServerProcess, traffic: Path
) -> None:
    shadow(traffic, "sums", "5", by="anna")
    shadow(traffic, "sums", "6", by="anna")
    wait_for(lambda: set(model(server)["shadows"]) == {"5", "6"}, "the shadows")
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: answer(server), range(1200)))
    # The slow one needs 600 seconds for them.
    assert time.monotonic() - begun < 120
    assert {got["rows"][0]["value"] for got in answers} == {3.0}
    wait_for(lambda: shadow_rows(server, "6", "failed") > 900, "failures")
    assert shadow_rows(server, "5", "dropped") > 100
    assert "4711" not in "".join(map(str, server.log))


def test_rows_that_a_shadow_refuses_or_that_had_no_answer_are_told_apart(
    server: ServerProcess, traffic: Path
) -> None:
    shadow(traffic, "sums", "3", by="anna")
    wait_for(lambda: model(server)["shadows"] == ["3"], "the shadow")
    rows = [ROW, {**ROW, "a": "one"}, ROW]
    got = server.client.post("/v1/models/sums/predict", json={"rows": rows}).json()
    assert "error" in got["rows"][1]
    wait_for(lambda: shadow_rows(server, "3", "differs") == 2, "the two that were answered")
    assert shadow_rows(server, "3", "refused") == 0


def test_what_the_contract_of_a_shadow_refuses_is_counted() -> None:
    narrow = msgspec.structs.replace(SUMS.features[0], maximum=5, on_out_of_range=Policy("reject"))
    contract = msgspec.structs.replace(SUMS, features=(narrow, *SUMS.features[1:]))
    version: Any = StubVersion("sums", "3", 2)
    version.contract, version.reader = contract, RowReader(contract, 2)
    rows: Any = Counter()
    nowhere: Any = SimpleNamespace(append=lambda _: None)
    asked = Shadow(version, rows, nowhere, nowhere)

    for rows_sent in ([ROW, {**ROW, "a": 6}], [ROW] * 3):
        body = msgspec.json.encode({"rows": rows_sent})
        answers = [RowAnswer(f"id-{n}", 1003.0) for n in range(len(rows_sent))]
        asked.ask(Asked("request", body, answers))
    assert rows == {"agrees": 1, "differs": 0, "refused": 1 + 3}


def test_an_entity_stands_elsewhere_in_each_model() -> None:
    points = [Routing(name, name, []).point_of("customer 1") for name in ("sums", "kinds")]
    assert points[0] != points[1]
    assert all(0 <= point < 100 for point in points)


def test_changing_versions_all_day_leaves_no_threads_behind(
    server: ServerProcess, traffic: Path
) -> None:
    tasks = Path(f"/proc/{server.process.pid}/task")
    counted = []
    for _ in range(6):
        promote(traffic, "sums", "1", by="anna")
        wait_for(lambda: answer(server)["version"] == "1", "version 1, which has a thread")
        promote(traffic, "sums", "3", by="anna")
        wait_for(lambda: answer(server)["version"] == "3", "version 3")
        counted.append(len(list(tasks.iterdir())))
    assert counted[-1] <= counted[1] + 1, counted
