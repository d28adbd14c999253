import numpy as np
import pytest

from reprise.randomness import numpy_generator
from reprise.training.loading import MOST_HELD, in_order, shuffled


def test_a_shuffled_order_is_what_numpy_draws_up_to_half_a_million_samples_and_computed_beyond():
    assert (shuffled(1000, 3, 7)[:] == numpy_generator(3, "order", 7).permutation(1000)).all()
    assert isinstance(shuffled(MOST_HELD, 3, 7), np.ndarray)
    beyond = shuffled(MOST_HELD + 1, 3, 7)[:]
    assert (np.sort(beyond) == np.arange(MOST_HELD + 1)).all()
    assert (beyond != shuffled(MOST_HELD + 1, 3, 8)[:]).any()


@pytest.mark.parametrize("num_samples", [0, 1, 7, 10**12])
def test_an_order_of_any_length_has_its_parts_at_once(num_samples):
    assert in_order(num_samples)[5:8].tolist() == list(range(num_samples)[5:8])
    order = shuffled(num_samples, 1, 0)
    assert order[3:9][2:5].tolist() == order[5:8].tolist()
    assert len(order[-2:]) == min(num_samples, 2)
