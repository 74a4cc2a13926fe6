"""The handoff: what other teams are told, what they sign, and proofs that it holds."""
