"""Nothing found in a run directory, a checkpoint or an export can run code, write elsewhere, or bring a verb down.

The hostile files are made here. What they would do is to create a file; whether it is there is what is looked at.
"""

import contextlib
import copy
import io
import json
import os
import pickle
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny.hugging_face import build_bert
from tiny_runs import TINY, compose

from reprise import from_pretrained, load_run
from reprise.cli.resuming import resume
from reprise.config import ExperimentConfig
from reprise.errors import CheckpointError, ConfigError, Different, Failure, InputError
from reprise.files.content_hash import content_hash
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory, open_run
from reprise.tools.checklist.audit import audit_run
from reprise.tools.compare import print_comparison
from reprise.tools.evaluate import evaluate_run
from reprise.tools.model_card import write_model_card
from reprise.tools.report import report_runs
from reprise.tools.reproduction.repeat import reproduce

REFUSALS = (InputError, Different, Failure)
READERS: dict[str, Callable[[Path], object]] = {
    "audit": lambda run: audit_run([str(run)]),
    "compare": lambda run: print_comparison([str(run)]),
    "report": lambda run: report_runs([str(run), "--output", str(run.parent / "report.html")]),
    "card": lambda run: write_model_card(RunDirectory(run)),
    "load_run": lambda run: (load_run(run).metrics, load_run(run).results),
}
VERBS = READERS | {
    "evaluate": lambda run: evaluate_run([str(run)]),
    "resume": lambda run: resume(run, ["training.max_epochs=3"]),
    "model": lambda run: load_run(run).model(),
}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._marker}",)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def pickled(marker: Path, path: Path) -> None:
    torch.save({"sha256": "0" * 64, "step": Payload(marker)}, path)


def pickled_plainly(marker: Path, path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(marker)))


def a_legacy_archive_that_climbs_out(marker: Path, path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("../marker", "pickle", "storages", "tensors"):
            content = pickle.dumps(Payload(marker))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def an_object_beside_the_state(marker: Path, path: Path) -> None:
    state = read_checkpoint(path)
    torch.save({**state, "extra": Payload(marker)}, path)


@pytest.mark.parametrize(
    "write", [pickled, pickled_plainly, a_legacy_archive_that_climbs_out, an_object_beside_the_state]
)
@pytest.mark.parametrize("forced", [False, True])
def test_a_checkpoint_runs_no_code(
    write: Callable[[Path, Path], None], forced: bool, run: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:  # undoes a bare `torch.load`
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for path in (run / "checkpoints").iterdir():
        write(marker, path)
    for verb in ("audit", "evaluate", "resume", "model"):
        with pytest.raises(REFUSALS):
            VERBS[verb](run)
    with pytest.raises(CheckpointError, match=r"is damaged, or is no checkpoint"):
        read_checkpoint(run / "checkpoints" / "best.pt")


@pytest.mark.parametrize(
    "edit",
    [
        lambda state: state.pop("loop_state"),
        lambda state: state.pop("model_state_dict"),
        lambda state: state["loop_state"].pop("step"),
        lambda state: state["loop_state"].update(best={"valeu": 1}),
        lambda state: state["callback_states"]["metrics_log"].update(length=10**12),
        lambda state: state["model_state_dict"].popitem(),
        lambda state: state["optimizer_state_dict"].update(param_groups=[]),
        lambda state: state.update(torch_rng_state=torch.zeros(3)),
        lambda state: state.update(config=[]),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused_in_one_message(edit: Callable[[Any], object], run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        state = read_checkpoint(path)
        del state["sha256"]
        edit(state)
        torch.save({**state, "sha256": content_hash(state)}, path)
    with pytest.raises(REFUSALS, match=r"last\.pt"):
        resume(run, ["training.max_epochs=3"])


HOSTILE_TARGETS = {
    "an untrusted package": {"_target_": "joblib.load", "filename": "evil.pkl"},
    "a package that the run says it trusts": {"_target_": "joblib.load", "filename": "evil.pkl"},
    "a run that trusts more": {"_target_": "reprise.runs.train.resume", "run_dir": "evil", "trusted_packages": ["os"]},
    "an export that trusts more": {
        "_target_": "reprise.runs.export.from_pretrained",
        "directory": "evil",
        "trusted_packages": ["os"],
    },
    "nested": {
        "_target_": "tiny.images.load_images",
        "train_split": 0.5,
        "val_split": 0.1,
        "shift_probability": {"_target_": "os.system", "command": "touch marker"},
    },
}


@pytest.mark.parametrize("name", HOSTILE_TARGETS)
@pytest.mark.parametrize("section", ["data", "model", "callbacks", "metrics"])
def test_a_config_calls_nothing_that_its_reader_does_not_trust(
    name: str, section: str, run: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(marker.parent)
    spec = HOSTILE_TARGETS[name]

    def edit(config: dict[str, Any]) -> None:
        config["trusted_packages"] = ["joblib", "os", "reprise", "posix"]
        if section in ("data", "model"):
            config[section] = {**spec, "num_workers": 0} if section == "data" else {**spec, "name": "x"}
        else:
            config[section] = {**config[section], "evil": spec}

    change(run / "config.json", edit)
    shutil.rmtree(run / "results")
    for verb in ("resume", "evaluate", "audit") if section != "callbacks" else ("resume", "audit"):
        with pytest.raises(REFUSALS):
            VERBS[verb](run)
    verdict = load_run(run)
    assert verdict.directory.path == run  # reading alone calls nothing
    if section == "callbacks":
        with pytest.raises(ConfigError, match=r"callbacks\.evil"):
            resume(run, ["training.max_epochs=3"])


@pytest.mark.parametrize("key", ["experiment_name", "run_id", "sweep_id"])
@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", "a\0b"])
def test_a_name_in_a_config_leads_nowhere(key: str, name: str, run: Path, tmp_path: Path) -> None:
    change(run / "config.json", lambda config: config.update({key: name}))
    for verb in VERBS:
        with contextlib.suppress(*REFUSALS):
            VERBS[verb](run)
    with pytest.raises(ConfigError, match=key):
        ExperimentConfig.load(run / "config.json")
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "report.html"}


LINKED = ("checkpoints", "checkpoints/last.pt", "logs/metrics.jsonl", "logs/train.log", "model_card.md", "status.json")


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "card"])
def test_a_link_out_of_the_run_directory_is_refused(name: str, verb: str, run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (run / name).rename(outside)
    (run / name).symlink_to(outside)
    before = sorted((path, path.read_bytes()) for path in [outside, *outside.rglob("*")] if path.is_file())
    with pytest.raises(InputError, match=rf"{name} is a link to .*outside, out of the run directory"):
        VERBS[verb](run)
    assert sorted((path, path.read_bytes()) for path in [outside, *outside.rglob("*")] if path.is_file()) == before


def test_a_link_within_the_run_directory_is_followed(run: Path) -> None:
    (run / "checkpoints" / "best.pt").unlink()
    (run / "checkpoints" / "best.pt").symlink_to("last.pt")
    assert open_run(run).best_checkpoint.is_file()


BAD_JSON = {
    "nested deeply": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "nested as deeply as can be read": '{"a":' * 400 + "1" + "}" * 400,
    "lists nested deeply": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a number of many digits": '{"seed":' + "9" * 100_000 + "}",
    "cut off": '{"seed": 4',
    "a list": "[]",
    "a number": "1e999",
    "not text": "\ud800",
}


@pytest.mark.parametrize("name", BAD_JSON)
@pytest.mark.parametrize("file", ["config.json", "status.json", "provenance.json", "results/metrics.json"])
def test_json_that_no_run_writes_is_refused_in_one_message(name: str, file: str, run: Path) -> None:
    (run / file).write_bytes(BAD_JSON[name].encode("utf-8", "surrogatepass"))
    for call in READERS.values():
        with contextlib.suppress(*REFUSALS):
            call(run)
    if file != "results/metrics.json":
        with pytest.raises(InputError, match=rf"{file}: "):
            resume(run, ["training.max_epochs=3"])


def test_json_too_large_is_refused_before_it_is_read(run: Path) -> None:
    with (run / "status.json").open("r+b") as file:
        file.truncate(2**40)  # takes no space on the disk
    with pytest.raises(InputError, match=r"status\.json: expected at most"):
        resume(run, ["training.max_epochs=3"])


@pytest.mark.parametrize(
    "line",
    ["{}", "[]", "1", "nonsense", '{"epoch": 1}', '{"timestamp": 1, "epoch": 1, "step": 1, "metrics": {"a": []}}'],
)
def test_metrics_that_no_run_writes_are_refused_with_the_line(line: str, run: Path) -> None:
    path = run / "logs" / "metrics.jsonl"
    path.write_text(path.read_text() + line + "\n")
    number = len(path.read_text().splitlines())
    with pytest.raises(InputError, match=rf"metrics\.jsonl, line {number}: not an entry of metrics"):
        load_run(run).metrics  # noqa: B018
    for call in READERS.values():
        with contextlib.suppress(*REFUSALS):
            call(run)


WRONG_VALUES: list[Any] = [None, True, -1, 1e308, "", "\u202e<script>{{x}}${oc.env:HOME}", [], [[]], {}, {"": {}}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value[:3]):
            yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


def try_replacements(run: Path, seed: int, num: int) -> list[str]:
    """Put wrong values at random places of the JSON files of a run; return what was neither done nor refused."""
    generator, found = random.Random(seed), []
    for _ in range(num):
        path = run / generator.choice(["config.json", "status.json", "provenance.json", "results/metrics.json"])
        whole = path.read_text()
        values = json.loads(whole)
        place, new = generator.choice(list(places(values))), generator.choice(WRONG_VALUES)
        path.write_text(json.dumps(replaced(values, place, new)))
        for verb, call in READERS.items():
            try:
                call(run)
            except REFUSALS:
                continue
            except Exception as error:
                found.append(
                    f"{verb}: {path.name} {'.'.join(map(str, place))} = {new!r}: {type(error).__name__} {error}"
                )
        path.write_text(whole)
    return found


def test_wrong_values_in_the_files_of_a_run_bring_no_verb_down(run: Path) -> None:
    assert try_replacements(run, seed=0, num=12) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_wrong_values_in_the_files_of_a_run_bring_no_verb_down_often(seed: int, run: Path) -> None:
    assert try_replacements(run, seed, num=100) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["pipeline"]}, "names no model of transformers"),
        ({"architectures": ["ViTForImageClassification", "BertModel"]}, "names no model of transformers"),
        ({"architectures": "os"}, "names no model of transformers"),
        ({"_target_": "os.system", "command": "touch marker"}, "is in no trusted package"),
        ({"_target_": "tiny.perceptron.Perceptron", "trusted_packages": ["os"]}, "takes no such argument"),
    ],
)
def test_an_export_names_no_code(
    config: dict[str, Any], message: str, run: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(marker.parent)
    (run / "export" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        from_pretrained(run / "export")


def test_an_export_brings_no_code_and_no_pickle(run: Path, marker: Path) -> None:
    export = run / "export"
    sizes = {"hidden_size": 2, "num_layers": 1, "dropout": 0.0, "vocab_size": 4, "max_length": 4, "pad_token_id": 0}
    build_bert(**sizes, label_names=["a", "b"]).save_pretrained(export)
    (export / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    change(export / "config.json", lambda config: config.update(auto_map={"AutoModel": "evil.Evil"}, model_type="bert"))
    assert from_pretrained(export) is not None
    (export / "model.safetensors").unlink()
    torch.save({"weight": Payload(marker)}, export / "pytorch_model.bin")
    with pytest.raises(InputError, match="no weights can be loaded"):
        from_pretrained(export)


def test_a_patch_that_is_not_the_recorded_one_or_climbs_out_is_not_run(run: Path, marker: Path) -> None:
    (run / "code.patch").write_text(
        "diff --git a/../../marker b/../../marker\nnew file mode 100644\n--- /dev/null\n+++ b/../../marker\n"
        "@@ -0,0 +1 @@\n+x\n"
    )
    with pytest.raises(InputError, match=r"code\.patch is code that was not made in .* --trust-code"):
        reproduce(run)
    with pytest.raises(InputError, match=r"code\.patch does not fit the recorded commit"):
        reproduce(run, trust_code=True)


def test_texts_in_a_run_are_no_yaml_tags_and_no_templates(run: Path, tmp_path: Path) -> None:
    texts = [
        "!!python/object/apply:os.system ['x']",
        "{{data}} {{script}}",
        "${oc.env:HOME}",
        "*alias",
        "&anchor",
        "---",
    ]
    for text in texts:
        change(run / "provenance.json", lambda facts, text=text: facts["data"].update(name=text, labels=[text] * 10))
        change(run / "config.json", lambda config, text=text: config["model"].update(name=text))
        write_model_card(RunDirectory(run))
        card = (run / "model_card.md").read_text()
        metadata = yaml.safe_load(card.split("---\n")[1])
        assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == text
        report_runs([str(run), "--output", str(tmp_path / "report.html")])
        page = (tmp_path / "report.html").read_text()
        assert page.count("<script") == 2
        assert os.environ["HOME"] not in page or "${oc.env:HOME}" in page


def test_an_interpolation_in_a_saved_config_is_a_text(run: Path) -> None:
    change(run / "config.json", lambda config: config["card"].update(authors="${oc.env:HOME}"))
    assert load_run(run).config.card.authors == "${oc.env:HOME}"
    assert compose(*TINY).config.card.authors is None
