"""Trains a model one optimizer step after another. It knows no file names and no config.

Read `loop` first, with `cadence` (what is due at a step); then `loading` (batches), `step`, `accumulation` and
`finiteness`: docs/engine/one-step.md walks through one step. `evaluation` scores a split, `monitoring` picks the best.
`processes`, `parallel`, `ordered_sums` and `shares` serve several processes; `signals` stops a run after its step.
"""
