"""MLServer serving the ONNX graph; the pipeline is served by its own scikit-learn runtime."""

from __future__ import annotations

import model
import pandas as pd
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Graph(MLModel):  # type: ignore[misc]
    """A runtime as the documentation shows it."""

    async def load(self) -> bool:
        """Load the graph."""
        self.answer = model.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a table."""
        frame: pd.DataFrame = PandasCodec.decode_request(payload)
        answers = self.answer(frame.to_dict("records"))
        output = NumpyCodec.encode_output("predict_proba", pd.DataFrame(answers).to_numpy())
        return InferenceResponse(model_name=self.name, outputs=[output])
