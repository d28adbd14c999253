import numpy as np
import pytest
import torch
from sklearn import datasets

from project.data.digits import load_digits
from reprise.randomness import SampleDraws


@pytest.fixture(scope="module")
def data():
    return load_digits(train_split=0.8, val_split=0.1, seed=42)


def shifted(image, down, right):
    """Return an image (8, 8), moved; what comes in is empty."""
    result = torch.zeros(8, 8)
    rows, columns = range(max(0, down), 8 + min(0, down)), range(max(0, right), 8 + min(0, right))
    for row in rows:
        for column in columns:
            result[row, column] = image[row - down, column - right]
    return result


def test_the_digits_are_those_of_scikit_learn_each_in_one_split(data):
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1438, "val": 179, "test": 180}
    images = torch.cat([split.columns["pixel_values"] for split in data.splits.values()])
    assert (images.shape, images.dtype) == ((1797, 1, 8, 8), torch.float32)
    assert (images.min(), images.max()) == (0, 1)
    found = sorted(map(tuple, (images * 16).flatten(1).tolist()))
    assert found == sorted(map(tuple, datasets.load_digits().data.tolist()))
    assert len(set(found)) == 1797  # no image is twice there, so none is in two splits


def test_an_image_keeps_its_label(data):
    everything = datasets.load_digits()
    labels = {image.tobytes(): label for image, label in zip(everything.data, everything.target, strict=True)}
    for split in data.splits.values():
        pixels = (split.columns["pixel_values"].double() * 16).flatten(1).numpy()
        assert [labels[row.tobytes()] for row in pixels] == split.columns["labels"].tolist()


def test_a_training_image_is_moved_by_at_most_one_pixel_and_about_half_of_them_are(data):
    split = data.splits["train"]
    indices = np.arange(300, dtype=np.int64)
    batch = split.get_batch(indices, SampleDraws(0, indices))
    offsets = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    seen = []
    for original, image in zip(split.columns["pixel_values"][:300, 0], batch["pixel_values"][:, 0], strict=True):
        fitting = [offset for offset in offsets if torch.equal(shifted(original, *offset), image)]
        assert fitting
        seen.append(fitting[0])
    assert set(seen) == set(offsets)
    num_moved = sum(offset != (0, 0) for offset in seen)
    assert abs(num_moved / 300 - 0.5 * 8 / 9) < 5 * np.sqrt(0.25 / 300)
    assert torch.equal(batch["labels"], split.columns["labels"][:300])


@pytest.mark.parametrize("name", ["val", "test"])
def test_what_is_scored_is_never_moved(data, name):
    indices = np.arange(50, dtype=np.int64)
    batch = data.splits[name].get_batch(indices, SampleDraws(0, indices))
    assert torch.equal(batch["pixel_values"], data.splits[name].columns["pixel_values"][:50])


def test_nothing_is_moved_without_a_probability_and_no_image_is_changed_in_place():
    split = load_digits(train_split=0.8, val_split=0.1, shift_probability=0.0, seed=42).splits["train"]
    before = split.columns["pixel_values"].clone()
    indices = np.arange(50, dtype=np.int64)
    assert torch.equal(split.get_batch(indices, SampleDraws(0, indices))["pixel_values"], before[:50])
    always = load_digits(train_split=0.8, val_split=0.1, shift_probability=1.0, seed=42).splits["train"]
    assert not torch.equal(always.get_batch(indices, SampleDraws(0, indices))["pixel_values"], before[:50])
    assert torch.equal(always.columns["pixel_values"], before)


def test_fingerprints_tell_splits_and_seeds_apart(data):
    fingerprints = data.description.fingerprints
    assert len(set(fingerprints.values())) == 3
    assert load_digits(train_split=0.8, val_split=0.1, seed=42).description.fingerprints == fingerprints
    other = load_digits(train_split=0.8, val_split=0.1, seed=43).description.fingerprints
    assert not set(other.values()) & set(fingerprints.values())


def test_the_baseline_is_scored_on_the_test_split(data):
    (baseline,) = data.baselines.values()
    assert 0.97 < baseline()["accuracy"] <= 1
    without_test = load_digits(train_split=0.9, val_split=0.1, seed=42)
    assert set(without_test.splits) == {"train", "val"}
    assert without_test.baselines == {}


def test_the_usage_lines_make_a_batch_as_the_model_takes_it(data):
    names = {}
    exec(data.usage, names)
    (image,) = names["batch"]["pixel_values"]
    assert image.shape == data.splits["test"].columns["pixel_values"].shape[1:]
    assert image.dtype == torch.float32
    assert any(torch.equal(image, other) for s in data.splits.values() for other in s.columns["pixel_values"])
