"""FastAPI, pydantic and the model, as tutorials write it: `uvicorn fastapi_service:app`."""

from __future__ import annotations

import model
from fastapi import FastAPI
from pydantic import BaseModel


class Row(BaseModel):
    """The features."""

    number_0: float
    number_1: float
    number_2: float
    number_3: float
    number_4: float
    number_5: float
    number_6: float
    region: str
    plan: str
    channel: str


class Rows(BaseModel):
    """A request."""

    rows: list[Row]


class Answers(BaseModel):
    """An answer."""

    probabilities: list[list[float]]


app = FastAPI()
predict = model.load()


@app.post("/predict")
def answer(request: Rows) -> Answers:
    """Answer rows; FastAPI runs it in a thread."""
    return Answers(probabilities=predict([row.model_dump() for row in request.rows]))
