"""What schemathesis must know of this service: one bad row is refused alone, among others."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection


@schemathesis.check  # type: ignore[untyped-decorator] # its types are not here
def what_breaks_the_schema_is_refused(context: Any, response: Any, case: Any) -> bool | None:
    """A request that breaks the schema is refused, or the row of it that does."""
    if response.status_code == 413:  # a refusal as well, which the check does not count
        return None
    if response.status_code == 200 and "/predict" in case.path:
        refused = ["error" in row for row in response.json()["rows"]]
        if any(refused) and not all(refused):
            return None
    told: bool | None = negative_data_rejection(context, response, case)
    return told
