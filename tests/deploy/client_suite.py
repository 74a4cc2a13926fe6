"""What every way to run the service must answer the same, byte for byte.

Requests: clean rows and dirty ones, both protocols, what is refused and by which layer. Only
the ids of a request and of its predictions are new each time.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from typing import Any

import httpx

ROW = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "sex": "male",
}
SPECIES = "/v1/models/penguin_species"
MASS = "/v1/models/penguin_mass"
DIRTY: list[dict[str, Any]] = [
    {"sex": None},
    {"sex": "unknown"},
    {"island": "Atlantis"},
    {"bill_length_mm": -5},
    {"bill_length_mm": "39.1"},
    {"flipper_length_mm": True},
    {"surprise": 1},
]
IDS = re.compile(rb'"(request_id|prediction_id|id)":"[^"]*"')
Answer = tuple[str, int, str, bytes]


@dataclass(frozen=True)
class Call:
    """One request of the suite."""

    method: str
    path: str
    content: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def ask(self, client: httpx.Client) -> Answer:
        """Return what was asked, and the status, the type and the body of the answer."""
        answer = client.request(
            self.method, self.path, content=self.content, headers=dict(self.headers)
        )
        body = IDS.sub(rb'"\1":""', answer.content)
        asked = f"{self.method} {self.path} {self.content[:60]!r}"
        return asked, answer.status_code, answer.headers.get("content-type", ""), body


def rows(path: str, *given: dict[str, Any]) -> Call:
    """Predict these rows."""
    return Call("POST", f"{path}/predict", json.dumps({"rows": given}).encode())


def tensors(model: str, **given: tuple[str, Any]) -> Call:
    """Predict one row of tensors."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1], "data": [value]}
        for name, (datatype, value) in given.items()
    ]
    return Call("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())


SPECIES_ROW = ROW | {"body_mass_g": 3750}
PACKED = gzip.compress(json.dumps({"rows": [SPECIES_ROW]}).encode(), mtime=0)
SUITE = [
    rows(SPECIES, SPECIES_ROW),
    rows(MASS, ROW),
    rows(f"{SPECIES}/versions/1", SPECIES_ROW),
    rows(f"{MASS}/versions/champion", ROW),
    rows(SPECIES, *({**SPECIES_ROW, **dirt} for dirt in DIRTY)),
    rows(MASS, *({**ROW, **dirt} for dirt in DIRTY)),
    rows(MASS, *({**ROW, "bill_length_mm": 33 + number / 10} for number in range(200))),
    rows(SPECIES, {}),
    rows(SPECIES),
    rows(f"{SPECIES}/versions/9", SPECIES_ROW),
    rows("/v1/models/nobody", ROW),
    tensors(
        "penguin_species",
        island=("BYTES", "Dream"),
        bill_length_mm=("FP64", 39.1),
        bill_depth_mm=("FP64", 18.7),
        flipper_length_mm=("FP64", 181.0),
        body_mass_g=("FP64", 3750.0),
        sex=("BYTES", "male"),
    ),
    tensors("penguin_species", island=("FP64", 1.0)),
    Call("POST", f"{SPECIES}/predict", b'{"rows": [{"a": NaN}]}'),
    Call("POST", f"{SPECIES}/predict", b"{"),
    Call("POST", f"{SPECIES}/predict", b"a,b", (("content-type", "text/csv"),)),
    Call(
        "POST",
        f"{SPECIES}/predict",
        PACKED,
        (("content-type", "application/json"), ("content-encoding", "gzip")),
    ),
    Call("PUT", f"{SPECIES}/predict", b"{}"),
    *(Call("GET", path) for path in ("/v1/models", SPECIES, "/v1/nothing", "/docs", "/livez")),
    *(Call("GET", path) for path in ("/openapi.json", "/readyz", "/v2", "/v2/models/penguin_mass")),
    *(Call("GET", path) for path in ("/v2/health/ready", "/v2/models/penguin_species/ready")),
]


def answers_of(url: str) -> list[Answer]:
    """Ask the whole suite at `url`."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        return [call.ask(client) for call in SUITE]


def assert_same(found: list[Answer], expected: list[Answer]) -> None:
    """Compare two runs of the suite, answer by answer."""
    assert len(expected) == len(SUITE) > 25
    for one, other in zip(found, expected, strict=True):
        assert one == other
