"""Experiment trackers: each shows the lines of `metrics.jsonl`, which remains the truth, in another place.

`base` has the protocol and `Feed`, which decides what is sent and when; `tensorboard` is fed by the training process,
`mlflow` and `wandb`, by `server`, from a process of their own.
"""
