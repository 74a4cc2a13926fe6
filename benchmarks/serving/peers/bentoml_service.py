"""BentoML: `bentoml serve bentoml_service:Plain` or `:Batching`."""

from __future__ import annotations

from typing import Any

import bentoml
import model


@bentoml.service(workers=1)
class Plain:
    """Answers each request by itself."""

    def __init__(self) -> None:
        self.answer = model.load()

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> list[list[float]]:
        """Answer rows."""
        return self.answer(rows)


@bentoml.service(workers=1)
class Batching:
    """Answers the requests that come together by one call."""

    def __init__(self) -> None:
        self.answer = model.load()

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def predict(self, rows: list[dict[str, Any]]) -> list[list[float]]:
        """Answer rows."""
        return self.answer(rows)
