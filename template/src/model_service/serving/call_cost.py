"""What a call of a model will take, learned from those before: how long must wait who comes now?"""

from __future__ import annotations

SHARE_OF_NEWEST = 0.2
"""Of the newest call in the running mean of what a call costs beside its rows."""
FORGETTING = 0.99
"""What is left of the size of the largest call after each other one: models and loads change."""
FARTHEST = 4.0
"""So many times the largest call that was seen, and not more, is concluded from what it took."""


class CallCost:
    """Seconds that a call costs, and seconds of each of its rows.

    The larger a call, the more its time says of a row: a model that takes 4 ms for one row rarely
    takes 4 s for a thousand. So a row costs what it did in the largest of the last calls, a call
    what the others took beside that, and of calls much larger than any before nothing is held
    against who asks: the next one tells.
    """

    def __init__(self) -> None:
        self._largest = 0.0
        self._row = 0.0
        self._call = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        """Take note of a call."""
        self._largest *= FORGETTING
        if rows >= self._largest:
            self._largest, self._row = float(rows), seconds / rows
        beside = max(0.0, seconds - rows * self._row)
        self._call += (beside - self._call) * SHARE_OF_NEWEST

    def expected(self, rows: int, calls: int) -> float:
        """Return the seconds that so many rows in so many calls will take."""
        of_each = min(rows / calls, FARTHEST * self._largest)
        return calls * (self._call + self._row * of_each)
