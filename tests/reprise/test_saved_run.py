import json

import numpy as np
import pytest
import torch

from reprise import from_pretrained, load_run
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.runs.checkpoint import read_checkpoint


def test_a_run_opens_with_its_config(finished_run):
    run = load_run(str(finished_run))
    assert run.config.run_id == "finished"
    assert run.config.to_dict() == json.loads((finished_run / "config.json").read_text())
    assert run.config.training.max_epochs == 2


def test_metrics_come_as_arrays(finished_run):
    metrics = load_run(finished_run).metrics
    lines = [json.loads(line) for line in (finished_run / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert set(metrics) == {name for line in lines for name in line["metrics"]}
    for name, series in metrics.items():
        rows = [(line["epoch"], line["step"], line["metrics"][name]) for line in lines if name in line["metrics"]]
        assert list(zip(series.epoch, series.step, series.value, strict=True)) == rows
        assert (series.epoch.dtype, series.step.dtype, series.value.dtype) == (np.int64, np.int64, np.float64)
    assert metrics["val/loss"].epoch.tolist() == [1, 2]


def test_the_model_has_the_weights_that_were_asked_for(finished_run):
    run = load_run(finished_run)
    for name in ("last", "best"):
        model = run.model(name)
        saved = read_checkpoint(finished_run / "checkpoints" / f"{name}.pt")["model_state_dict"]
        assert content_hash(dict(model.state_dict())) == content_hash(saved)
        assert not model.training


def test_the_best_weights_are_those_of_the_export(finished_run):
    run = load_run(finished_run)
    batch = run.example_batch()
    with torch.no_grad():
        logits = run.model()(**batch).logits
        assert torch.equal(from_pretrained(finished_run / "export")(**batch).logits, logits)
    assert list(logits.shape) == [len(batch["labels"]), 10]


def test_an_evaluation_gives_exactly_what_the_run_recorded(finished_run):
    run = load_run(finished_run)
    recorded = json.loads((finished_run / "results" / "metrics.json").read_text())
    assert run.results == recorded
    scored = json.loads(json.dumps(run.evaluate()))
    assert scored == {key: recorded[key] for key in scored}
    assert set(recorded) - set(scored) == {"baselines"}
    assert set(scored["metrics"]) == {
        f"test/{n}" for n in "loss accuracy macro_f1 macro_precision macro_recall".split()
    }


def test_an_evaluation_of_the_validation_split_gives_what_was_logged(finished_run):
    run = load_run(finished_run)
    for epoch, name in ((2, "last"), (run.results["epoch"], "best")):
        scored = run.evaluate(name, "val")
        assert scored["epoch"] == epoch
        assert scored["metrics"] == {
            key: series.value[epoch - 1] for key, series in run.metrics.items() if key.startswith("val/")
        }


def test_evaluations_repeat_in_any_order(finished_run):
    run = load_run(finished_run)
    first = run.evaluate("best", "test")
    run.evaluate("last", "train")
    run.model("last")
    torch.rand(3)
    assert run.evaluate("best", "test") == first


def test_what_is_not_there_is_refused_with_what_is(finished_run, tmp_path):
    run = load_run(finished_run)
    with pytest.raises(InputError, match=r"no split 'tset'; there are: train, val, test"):
        run.evaluate(split="tset")
    with pytest.raises(InputError, match=r"no split 'tset'"):
        run.example_batch("tset")
    with pytest.raises(InputError, match=r"no checkpoint 'epoch_009'; there are: best, last"):
        run.model("epoch_009")
    with pytest.raises(InputError, match="not the directory of a run"):
        load_run(tmp_path)


def test_a_run_that_has_no_results_yet_says_so(finished_run, tmp_path):
    (tmp_path / "config.json").write_bytes((finished_run / "config.json").read_bytes())
    assert load_run(tmp_path).results is None


def test_what_counts_is_the_best_checkpoint_also_where_the_last_is_another(train_tiny):
    path = train_tiny("training.monitor_mode=max")  # the highest loss is that of the first epoch
    run = load_run(path)
    assert run.results["epoch"] == 1
    best, last = (content_hash(dict(run.model(name).state_dict())) for name in ("best", "last"))
    assert run.results["weights_sha256"] == best != last
    assert run.evaluate()["metrics"] == run.results["metrics"] != run.evaluate("last")["metrics"]
    exported = dict(from_pretrained(path / "export").state_dict())
    assert content_hash(exported) == best
