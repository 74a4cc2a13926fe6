"""Proofs of the group: contract."""
