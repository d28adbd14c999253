"""Runs on disk: their directory, checkpoints, provenance and metrics log, and how one is trained, restored and exported."""
