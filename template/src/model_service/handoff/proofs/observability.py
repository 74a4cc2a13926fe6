"""Proofs of the group: observability."""
