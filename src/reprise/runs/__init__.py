"""Runs on disk: directory, checkpoints, provenance, metrics log; how a run is trained, restored and exported."""
