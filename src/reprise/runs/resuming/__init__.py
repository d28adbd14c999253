"""Resumes a run: the state that was saved, and what has changed since.

Read `restored_state` (what was saved), `changes` (which changes a run can take while it is under way), `restoring` (all
parts in that state), `optimizer_settings` (changed ones take effect), `best_evaluation` (chosen again by
another metric), `damaged_checkpoints` (what takes their place).
"""
