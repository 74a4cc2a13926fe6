"""The contract of a model: what it accepts, what it returns, what happens to dirty values."""
