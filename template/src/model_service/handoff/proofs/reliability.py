"""Proofs of the group: reliability."""
