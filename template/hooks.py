"""Your monitoring hooks: functions that the platform calls, each in a thread of its own.

`on_load`, `on_prediction`, `on_rejection`, `on_drift` and `on_ground_truth`: docs/hooks.md says
what each one gets, with examples to copy. A hook that fails or hangs never costs an answer.
"""
