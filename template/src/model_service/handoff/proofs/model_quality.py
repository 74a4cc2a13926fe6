"""Proofs of the group: model quality."""
