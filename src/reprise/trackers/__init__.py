"""Experiment trackers: adapters that send what `metrics.jsonl` holds elsewhere."""
