"""All randomness is addressed, not streamed: a draw depends on where it is used, never on how many came before it.

Read `addresses` first: one training step needs nothing else. `determinism` seeds and chooses kernels once at the start
of a run, `counter_based` computes what many samples draw at once, `global_state` saves the global generators.
"""

from reprise.randomness.addresses import address, numpy_generator, seed_globals
from reprise.randomness.counter_based import SampleDraws, permuted
from reprise.randomness.determinism import Determinism, set_determinism, set_seed
from reprise.randomness.global_state import capture_rng_state, first_seed, restore_rng_state

__all__ = [
    "Determinism",
    "SampleDraws",
    "address",
    "capture_rng_state",
    "first_seed",
    "numpy_generator",
    "permuted",
    "restore_rng_state",
    "seed_globals",
    "set_determinism",
    "set_seed",
]
