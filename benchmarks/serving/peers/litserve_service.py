"""LitServe: `python litserve_service.py PORT [batching]`."""

import sys
from typing import Any

import litserve
import model


class Api(litserve.LitAPI):  # type: ignore[misc]
    """One request is a list of rows."""

    def setup(self, _device: str) -> None:
        """Load the model in the worker."""
        self.answer = model.load()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take the rows out of the body."""
        return request["rows"]

    def predict(self, rows: Any) -> Any:
        """Answer rows; with batching, those of several requests."""
        if not self.max_batch_size or self.max_batch_size == 1:
            return self.answer(rows)
        answers = self.answer([row for request in rows for row in request])
        taken = iter(answers)
        return [[next(taken) for _ in request] for request in rows]

    def batch(self, requests: list[Any]) -> Any:
        """Keep the requests apart, so that their lengths are known."""
        return requests

    def unbatch(self, answers: Any) -> Any:
        """One answer a request."""
        return answers

    def encode_response(self, answers: Any) -> dict[str, Any]:
        """Make the body of an answer."""
        return {"probabilities": answers}


if __name__ == "__main__":
    batching = {"max_batch_size": 64, "batch_timeout": 0.005} if "batching" in sys.argv else {}
    server = litserve.LitServer(Api(**batching), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
