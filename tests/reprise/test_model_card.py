import copy
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from reprise.config import CardConfig, ExperimentConfig
from reprise.errors import InputError
from reprise.runs.metrics_log import MetricEntry
from reprise.runs.run_directory import RunDirectory
from reprise.text.numbers import wilson_interval
from reprise.tools.checklist import Check
from reprise.tools.model_card import generate_model_card, write_model_card
from reprise.tools.model_card.hub import LANGUAGES, LICENSES, TASKS

SECTIONS = [
    "Model Details",
    "Intended Use",
    "Training Data",
    "Training Configuration",
    "Evaluation Results",
    "Limitations",
    "Ethical Considerations",
    "How to Use",
    "Reproducibility",
]
HOSTILE = "a|b`c`<img src=x onerror=alert(1)>\n---\n# Injected\n| x | y |\n```\u202e\x07[link](javascript:1)**bold**\\"
METRICS = {"test/loss": 0.2, "test/accuracy": 0.9625}
RESULTS: dict[str, Any] = {
    "checkpoint": "best",
    "epoch": 3,
    "step": 30,
    "split": "test",
    "monitor": {"metric": "val/loss", "mode": "min", "value": 0.25},
    "metrics": METRICS,
    "validation_metrics": {"train/loss": 0.24, "val/loss": 0.25, "val/accuracy": 0.95},
    "details": {
        "classification": {
            "num_samples": 80,
            "intervals": {"accuracy": [0.9, 1.0]},
            "confusion_matrix": {"labels": ["cat", "dog"], "counts": [[39, 1], [2, 38]]},
        }
    },
    "baselines": {"majority class": {"accuracy": 0.5}},
    "weights_sha256": "ab" * 32,
}
PROVENANCE: dict[str, Any] = {
    "created": "2026-11-20T10:15:00+00:00",
    "code": {"commit": "c0ffee" * 6 + "c0ff", "branch": "main", "remote": None, "dirty": False},
    "command": {
        "argv": ["scripts/train.py"],
        "overrides": ["experiment=pets", "run_id=one", "sweep_id=s", "card.authors='A B'"],
    },
    "environment": {"python": "3.11.9", "platform": "Linux", "packages": {"torch": "2.12.0", "tqdm": "4.0"}},
    "hardware": {
        "cpu": "Some CPU",
        "num_cores": 4,
        "memory_bytes": 2**34,
        "device": "cpu",
        "gpus": [],
        "num_threads": 1,
    },
    "determinism": {"debug_mode": "warn", "nondeterministic_operations": []},
    "data": {
        "name": "pets",
        "task": "image-classification",
        "summary": "Photographs, see `pets.py`.",
        "source": "a shelter",
        "license": "cc-by-4.0",
        "language": None,
        "labels": ["cat", "dog"],
        "caveats": ["One photographer."],
        "splits": {
            name: {"num_samples": size, "sha256": name[0] * 64} for name, size in (("train", 240), ("test", 80))
        },
    },
    "model": {
        "class": "transformers.models.vit.modeling_vit.ViTForImageClassification",
        "library": "transformers",
        "num_parameters": 12345,
        "num_trained_parameters": 12000,
        "initial_sha256": "cd" * 32,
        "input_shapes": {"pixel_values": [1, 8, 8]},
        "logits_shape": [2],
    },
    "usage": 'import torch\n\nbatch = {"pixel_values": torch.zeros(2, 1, 8, 8)}',
    "cost": {
        "from_step": 20,
        "wall_seconds": 83.2,
        "wall_seconds_all_attempts": 190.5,
        "samples_per_second": 910.0,
        "peak_memory_bytes": 2**29,
        "energy_joules": None,
    },
}
STATUS = {"status": "completed", "reason": None, "attempts": [{"from_step": 0}, {"from_step": 20}]}
CONFIG = ExperimentConfig(experiment_name="pets", run_id="one", num_threads=1, card=CardConfig(license="MIT"))


def history(num_epochs: int, train_loss: float = 0.24) -> list[MetricEntry]:
    """Return evaluations; the third is the one that `RESULTS` are about."""
    losses = {3: {"train/loss": train_loss, "val/loss": 0.25}}
    return [
        MetricEntry("2026-11-20T10:15:00", n, n * 10, losses.get(n, {"train/loss": 1 / n, "val/loss": 1 / n}))
        for n in range(1, num_epochs + 1)
    ]


def card(path: Path, config: Any = CONFIG, metrics: Any = METRICS, **facts: Any) -> str:
    given = {"provenance": PROVENANCE, "results": RESULTS, "status": STATUS, "history": history(3)} | facts
    return generate_model_card(config, metrics, path / "card.md", **given).read_text(encoding="utf-8")


def changed(source: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return a copy in which `a__b=1` has set source["a"]["b"]."""
    result = copy.deepcopy(source)
    for path, value in values.items():
        *parents, last = path.split("__")
        place = result
        for key in parents:
            place = place[key]
        place[last] = value
    return result


def metadata(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    values = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert isinstance(values, dict)
    return values


def section(text: str, name: str) -> str:
    return re.split(r"^## ", text.partition(f"\n## {name}\n")[2], flags=re.MULTILINE)[0]


def row(text: str, name: str) -> list[str]:
    """Return the cells of the first table row that begins with `name`."""
    line = next(line for line in text.splitlines() if re.match(rf"\| +{re.escape(name)} +\|", line))
    return [cell.strip() for cell in line.strip("|").split("|")]


def write_run(path: Path) -> RunDirectory:
    run = RunDirectory(path / "outputs" / "experiments" / "pets" / "one")
    run.results.mkdir(parents=True)
    run.logs.mkdir()
    CONFIG.save(run.config)
    for file, values in ((run.provenance, PROVENANCE), (run.metrics, RESULTS), (run.status, STATUS)):
        file.write_text(json.dumps(values), encoding="utf-8")
    lines = [entry.to_json() for entry in history(3)]
    run.metrics_log.write_text("\n".join(lines) + '\n{"timest', encoding="utf-8")
    return run


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(356, 360, 97.2, 99.6), (35, 36, 85.8, 99.5), (36, 36, 90.4, 100.0), (0, 36, 0.0, 9.6)],
)
def test_wilson_intervals_are_the_published_ones(hits: int, trials: int, low: float, high: float) -> None:
    assert [round(100 * bound, 1) for bound in wilson_interval(hits, trials)] == [low, high]


def test_front_matter_holds_what_the_hub_requires(tmp_path: Path) -> None:
    assert metadata(card(tmp_path)) == {
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", "reprise"],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": "pets",
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"type": "pets", "name": "pets", "split": "test"},
                        "metrics": [
                            {"type": "loss", "value": 0.2, "name": "Loss"},
                            {"type": "accuracy", "value": 0.9625, "name": "Accuracy"},
                        ],
                    }
                ],
            }
        ],
    }


def test_the_hub_reads_the_same_figures_out_of_the_card(tmp_path: Path) -> None:
    read = ModelCard(card(tmp_path)).data.to_dict()["model-index"][0]["results"][0]["metrics"]
    assert [(metric["type"], metric["value"]) for metric in read] == [("loss", 0.2), ("accuracy", 0.9625)]


def test_the_hub_reads_every_part_of_a_result_out_of_the_card_and_writes_it_back(tmp_path: Path) -> None:
    data = ModelCard(card(tmp_path)).data
    assert [(r.task_type, r.dataset_type, r.dataset_name, r.metric_type) for r in data.eval_results or []] == [
        ("image-classification", "pets", "pets", "loss"),
        ("image-classification", "pets", "pets", "accuracy"),
    ]
    assert (data.license, data.library_name, data.tags) == ("mit", "transformers", ["pytorch", "reprise"])
    assert yaml.safe_load(data.to_yaml()) == metadata(card(tmp_path))


def test_plots_beside_the_card_are_shown_where_they_belong(tmp_path: Path) -> None:
    paths = [f"results/{name}.svg" for name in ("learning_curves", "confusion_matrix", "reliability")]
    text = section(card(tmp_path, plots=paths), "Evaluation Results")
    parts = {part.split("\n")[0]: part for part in re.split(r"^### ", text, flags=re.MULTILINE)}
    for heading, path in (
        ("Learning history", paths[0]),
        ("Confusion matrix", paths[1]),
        ("Reliability", paths[2]),
    ):
        assert re.search(rf"^!\[[^]]+\]\({path}\)$", parts[heading], flags=re.MULTILINE)
    assert "![" not in card(tmp_path)


def test_confusions_of_many_classes_are_shown_as_a_picture_only(tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(60)]
    counts = [[40 if column == index else 0 for column in range(60)] for index in range(60)]
    results = changed(RESULTS, details__classification__confusion_matrix={"labels": labels, "counts": counts})
    text = card(tmp_path, results=results, plots=["results/confusion_matrix.svg"])
    part = text.partition("### Confusion matrix\n")[2].partition("\n### ")[0].strip()
    assert part == "![Labels and predictions, counted](results/confusion_matrix.svg)"


def test_identifiers_that_the_hub_does_not_know_stay_out_of_the_front_matter(tmp_path: Path) -> None:
    config = CONFIG.to_dict() | {"card": {"license": "banana"}}
    provenance = changed(PROVENANCE, data__language="klingon", data__task="guessing", model__library="banana")
    values = metadata(card(tmp_path, config, provenance=provenance))
    assert values.keys() == {"tags", "metrics", "model-index"}
    assert {"mit", "apache-2.0", "cc-by-4.0"} <= LICENSES
    assert {"image-classification", "text-generation"} <= TASKS
    assert len(LANGUAGES) == 183


def test_norwegian_is_not_read_as_false(tmp_path: Path) -> None:
    assert metadata(card(tmp_path, provenance=changed(PROVENANCE, data__language="no")))["language"] == ["no"]


def test_front_matter_has_plain_finite_numbers_only(tmp_path: Path) -> None:
    import numpy as np

    metrics = {"test/accuracy": np.float32(0.5), "test/loss": float("nan"), "test/perplexity": float("inf")}
    (result,) = metadata(card(tmp_path, metrics=metrics))["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.5, "name": "Accuracy"}]


def test_every_section_is_there_once_and_in_order(tmp_path: Path) -> None:
    assert re.findall(r"^## (.*)$", card(tmp_path), flags=re.MULTILINE) == SECTIONS


def test_three_arguments_are_enough_and_what_is_missing_is_said(tmp_path: Path) -> None:
    path = generate_model_card(ExperimentConfig(), {"test/accuracy": 0.98}, tmp_path / "new" / "card.md")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "new" / "card.md"
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert "**Accuracy 98.00 %** on the test split.\n" in section(text, "Evaluation Results")
    assert row(section(text, "Model Details"), "Parameters") == ["Parameters", "not recorded", ""]
    assert row(section(text, "Reproducibility"), "Commit") == ["Commit", "not recorded"]


def test_nothing_at_all_gives_a_card_without_figures(tmp_path: Path) -> None:
    text = generate_model_card({}, {}, tmp_path / "card.md").read_text(encoding="utf-8")
    assert metadata(text) == {"tags": ["pytorch", "reprise"]}
    assert "Figures: not recorded." in section(text, "Evaluation Results")
    assert not re.search(r"\d %", section(text, "Evaluation Results"))


@pytest.mark.parametrize("source", [PROVENANCE, RESULTS])
def test_any_one_fact_may_be_missing_or_null(tmp_path: Path, source: dict[str, Any]) -> None:
    name = "provenance" if source is PROVENANCE else "results"

    def paths(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        below = [paths(value, (*prefix, key)) for key, value in values.items() if isinstance(value, dict)]
        return [(*prefix, key) for key in values] + [path for found in below for path in found]

    for path in paths(source):
        without = changed(source, **{"__".join(path): None})
        assert re.findall(r"^## (.*)$", card(tmp_path, **{name: without}), flags=re.MULTILINE) == SECTIONS
        place = without
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        assert re.findall(r"^## (.*)$", card(tmp_path, **{name: without}), flags=re.MULTILINE) == SECTIONS


def test_things_to_be_written_are_counted_and_marked(tmp_path: Path) -> None:
    empty, full = CardConfig(), CardConfig(*["Said."] * 7)
    for declared, number, line in (
        (empty, 7, "7 things in this card are still to be written: `card.description`, "),
        (CONFIG.card, 6, "6 things in this card are still to be written: `card.description`, "),
        (CardConfig(*["Said."] * 6), 1, "1 thing in this card is still to be written: `card.ethical_considerations`."),
        (full, 0, "Nothing in this card is still to be written."),
    ):
        text = card(tmp_path, ExperimentConfig(card=declared))
        assert text.count("**To be written**") == number
        assert text.partition("\n# ")[2].split("\n")[2].startswith(line)


def test_headline_has_its_interval_its_baselines_and_its_checkpoint(tmp_path: Path) -> None:
    text = section(card(tmp_path), "Evaluation Results")
    assert (
        "**Accuracy 96.25 %** on the test split (95 % interval 89.5–98.7 %, 80 samples); "
        "for comparison: majority class 50.00 %." in text
    )
    assert (
        "All figures are of the checkpoint `best` (epoch 3, step 30). "
        "It was chosen because `val/loss` was lowest there (0.2500)." in text
    )
    assert row(text, "Accuracy") == ["Accuracy", "—", "95.00 %", "96.25 %", "89.5–98.7 %"]
    assert row(text, "Loss") == ["Loss", "0.2400", "0.2500", "0.2000", "—"]


def test_interval_of_the_metric_stands_where_the_counts_do_not_give_the_figure(tmp_path: Path) -> None:
    text = card(tmp_path, metrics={"test/accuracy": 0.97})
    assert "(95 % interval 90.0–100.0 %, 80 samples)" in text


def test_classes_and_confusions_come_from_the_counts(tmp_path: Path) -> None:
    text = section(card(tmp_path), "Evaluation Results")
    assert row(text, "`cat`") == ["`cat`", "40", "95.1 %", "83.9–98.7 %", "97.5 %", "87.1–99.6 %"]
    assert row(text.partition("### Confusion matrix")[2], "`dog`") == ["`dog`", "2", "**38**"]


def test_large_confusion_matrices_are_left_out(tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(60)]
    counts = [[40 if column == index else 0 for column in range(60)] for index in range(60)]
    counts[7][7], counts[7][8] = 30, 10
    matrix = {"labels": labels, "counts": counts}
    text = card(tmp_path, results=changed(RESULTS, details__classification__confusion_matrix=matrix))
    assert "### Confusion matrix" not in text
    classes = text.partition("### Classes")[2].partition("###")[0]
    assert "The 50 of 60 classes with the lowest recall." in classes
    assert classes.splitlines()[6].startswith("| `class 7`")


def test_history_is_thinned_but_keeps_first_best_and_last(tmp_path: Path) -> None:
    text = card(tmp_path, results=changed(RESULTS, step=170), history=history(100))
    rows = re.findall(r"^\| +(\d+) \| +([\d,]+) \| .* \| (best)? +\|$", text, flags=re.MULTILINE)
    assert [int(epoch) for epoch, _, _ in rows] == [1, 11, 17, 21, 31, 41, 51, 60, 70, 80, 90, 100]
    assert [mark for _, _, mark in rows] == ["", "", "best", *[""] * 9]
    assert "12 of 100 evaluations are shown." in text


def test_generated_samples_cannot_leave_their_block(tmp_path: Path) -> None:
    text = card(tmp_path, results=RESULTS | {"samples": ["one\n```\n## Injected", "two"]})
    assert "````text\none\n```\n## Injected\n````" in text
    assert "```text\ntwo\n```" in text


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"results": changed(RESULTS, details__classification__confusion_matrix__counts=[[20, 0], [0, 60]])},
            "Of 2 classes, 1 has fewer than 30 test samples, too few for firm figures: `cat` (20).",
        ),
        (
            {"results": changed(RESULTS, details__classification__confusion_matrix__counts=[[40, 0], [40, 0]])},
            "Never predicted, though there are samples: `dog`.",
        ),
        (
            {"results": changed(RESULTS, **{"validation_metrics__train/loss": 0.1}), "history": history(3, 0.1)},
            "The model overfits: at this checkpoint the validation loss is 0.2500, "
            "2.500 times the training loss of 0.1000.",
        ),
        (
            {"results": changed(RESULTS, baselines__nearest={"accuracy": 0.95})},
            "The interval of the accuracy (89.5–98.7 %) includes the baseline nearest (95.00 %): "
            "these samples do not show which of the two is better.",
        ),
        (
            {"results": changed(RESULTS, baselines__oracle={"accuracy": 1.0})},
            "The accuracy of 96.25 % is not better than that of the baseline oracle (100.00 %).",
        ),
        (
            {"provenance": changed(PROVENANCE, code__dirty=True)},
            "The code had uncommitted changes: the commit alone does not give this run again.",
        ),
        (
            {"provenance": changed(PROVENANCE, data__splits={"train": {"num_samples": 3}})},
            "There is no test split: the figures are of samples that chose the checkpoint, and flatter it.",
        ),
        (
            {"status": {"status": "failed", "reason": "loss is NaN"}},
            "The run did not finish: it is failed (loss is NaN).",
        ),
    ],
)
def test_cautions_are_made_from_facts(tmp_path: Path, facts: dict[str, Any], sentence: str) -> None:
    assert f"- {sentence}\n" not in section(card(tmp_path), "Limitations")
    text = card(tmp_path, **facts)
    assert f"- {sentence}\n" in section(text, "Limitations")
    assert re.search(r"^\d+ cautions? found in the facts", text, flags=re.MULTILINE)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    values = CONFIG.to_dict()
    values["model"] |= {"name": HOSTILE, "_target_": HOSTILE}
    values["card"] = dict.fromkeys(values["card"], HOSTILE)
    data = dict.fromkeys(("name", "task", "summary", "source", "license", "language"), HOSTILE)
    provenance = changed(
        PROVENANCE,
        data=PROVENANCE["data"] | data | {"labels": [HOSTILE, "dog"], "caveats": [HOSTILE], "splits": {HOSTILE: {}}},
        model={"class": HOSTILE, "library": HOSTILE, "input_shapes": {HOSTILE: [HOSTILE]}, "logits_shape": [HOSTILE]},
        code=dict.fromkeys(("commit", "branch", "remote"), HOSTILE),
        hardware=dict.fromkeys(PROVENANCE["hardware"], HOSTILE),
        environment={"python": HOSTILE, "platform": HOSTILE, "packages": {"torch": HOSTILE}},
        command={"overrides": [HOSTILE]},
        determinism={HOSTILE: HOSTILE},
    )
    results = changed(
        RESULTS,
        checkpoint=HOSTILE,
        baselines={HOSTILE: {"accuracy": 0.5}},
        samples=[HOSTILE],
        details__classification__confusion_matrix__labels=[HOSTILE, "dog"],
    )
    status = {"status": "failed", "reason": HOSTILE}
    metrics = {**METRICS, f"test/{HOSTILE}": 1.0}
    checks = [Check(HOSTILE, "failed", HOSTILE)]
    text = card(tmp_path, values, metrics, provenance=provenance, results=results, status=status, checklist=checks)

    assert metadata(text)["model-index"][0]["results"][0]["dataset"]["name"].startswith("a|b`c`<img")
    body = text.split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    inner = [child for token in tokens for child in token.children or []]
    assert not {token.type for token in [*tokens, *inner]} & {"html_block", "html_inline", "hr", "image"}
    assert {token.attrs["href"] for token in inner if token.type == "link_open"} == {"#limitations"}
    assert not [a for a, b in itertools.pairwise(inner) if (a.type, b.content) == ("strong_open", "bold")]
    headings = [(token.tag, tokens[i + 1].content) for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert [content for tag, content in headings if tag == "h2"] == SECTIONS
    assert [content[:3] for tag, content in headings if tag == "h1"] == [r"a\|"]
    # A parser cuts or fills the rows of a table to the cells of its header: count those that are written.
    blocks = re.findall(r"(?:^\|.*\|\n)+", body, flags=re.MULTILINE)
    tables = [[len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()] for block in blocks]
    assert len(tables) == sum(token.type == "table_open" for token in tokens) + 1  # one stands in the generated sample
    assert [len(set(counts)) for counts in tables] == [1] * len(tables)
    assert not {"\u202e", "\x07"} & set(text)


def test_card_text_keeps_paragraphs_lists_and_code(tmp_path: Path) -> None:
    intended_use = "For `x_y`\nonly.\r\n\r\n- *one*\n- two\n\n# no heading\n\n1. a_b __c__"
    text = section(card(tmp_path, ExperimentConfig(card=CardConfig(intended_use=intended_use))), "Intended Use")
    shown = "For `x_y` only.\n\n- \\*one\\*\n- two\n\n\\# no heading\n\n1\\. a_b \\_\\_c\\_\\_"
    assert text.startswith(f"\n{shown}\n\n*Declared in the config, `card.intended_use`.*\n")


def test_how_to_use_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    images = {"image_size": 8, "patch_size": 4, "num_channels": 1, "id2label": {0: "cat", 1: "dog"}}
    model = ViTForImageClassification(ViTConfig(**size, **images))
    model.save_pretrained(tmp_path / "outputs" / "experiments" / "pets" / "one" / "export")
    (example,) = re.findall(r"```python\n(.*?)```", card(tmp_path), flags=re.DOTALL)
    assert example.count("import torch\n") == 1
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(example, "card", "exec"), {})
    assert capsys.readouterr().out in {f"{[label, label]}\n" for label in ("cat", "dog")}


def test_models_that_are_not_transformers_load_through_reprise(tmp_path: Path) -> None:
    provenance = changed(PROVENANCE, model__library="pytorch", model__class="mine.Net", usage="")
    (example,) = re.findall(r"```python\n(.*?)```", card(tmp_path, provenance=provenance), flags=re.DOTALL)
    assert example == (
        "import torch\n"
        "from reprise import from_pretrained, load_run\n"
        "\n"
        'directory = "outputs/experiments/pets/one/export"\n'
        "model = from_pretrained(directory)\n"
        "\n"
        'run = load_run("outputs/experiments/pets/one")\n'
        'batch = run.example_batch("test")\n'
        "\n"
        "with torch.no_grad():\n"
        "    logits = model(**batch).logits\n"
        "print(logits.argmax(-1))\n"
    )


def test_command_repeats_the_run_under_a_new_name(tmp_path: Path) -> None:
    text = section(card(tmp_path), "Reproducibility")
    authors = "'card.authors='\"'\"'A B'\"'\"''"
    assert f"\npython scripts/train.py experiment=pets {authors} num_threads=1\n" in text
    assert f"\ngit checkout {PROVENANCE['code']['commit']}\n" in text
    assert row(text, "Attempts") == ["Attempts", "2: stopped 1 time, resumed from step 20"]
    assert row(text, "Packages") == ["Packages", "torch 2.12.0"]


def test_patch_is_applied_only_where_there_is_one(tmp_path: Path) -> None:
    apply = "git apply outputs/experiments/pets/one/code.patch"
    assert apply not in card(tmp_path)
    patched = changed(PROVENANCE, code__dirty=True, code__patch_sha256="ab" * 32)
    assert apply in card(tmp_path, provenance=patched)
    assert apply not in card(tmp_path, provenance=changed(patched, code__patch_sha256=None))


def test_cost_is_told_for_all_attempts_and_what_is_unknown_is_called_so(tmp_path: Path) -> None:
    text = card(tmp_path)
    last = "1 min 23 s for the last attempt, from step 20"
    assert row(text, "Wall time") == ["Wall time", f"3 min 10 s in 2 attempts; {last}"]
    assert row(text, "Peak memory") == ["Peak memory", "512 MiB of the whole process"]
    assert row(text, "Energy") == ["Energy", "not measured"]
    text = card(tmp_path, provenance=changed(PROVENANCE, cost__wall_seconds_all_attempts=None))
    unknown = "how long all 2 attempts took is not known, because one was killed"
    assert row(text, "Wall time") == ["Wall time", f"{last}; {unknown}"]
    text = card(tmp_path, status={"status": "completed", "attempts": [{"from_step": 0}]})
    assert row(text, "Wall time") == ["Wall time", "1 min 23 s"]
    text = card(tmp_path, provenance=changed(PROVENANCE, cost__energy_joules=7200.0))
    assert row(text, "Energy") == ["Energy", "2.000 Wh, by the GPU's own counter"]


def test_no_bits_are_promised_where_determinism_is_off(tmp_path: Path) -> None:
    assert "same machine class, same bits" in card(tmp_path)
    assert "same machine class, same bits" not in card(tmp_path, ExperimentConfig(deterministic=False))


def test_no_bits_are_promised_where_an_operation_warned(tmp_path: Path) -> None:
    text = card(tmp_path, provenance=changed(PROVENANCE, determinism__nondeterministic_operations=["put_"]))
    assert "same machine class, same bits" not in text
    assert "but `put_` warned that there is none" in section(text, "Reproducibility")
    caution = "- Without deterministic kernels: `put_`; a repeated run may end in different weights.\n"
    assert caution in section(text, "Limitations")


@pytest.mark.parametrize(
    ("deterministic", "determinism", "sentence"),
    [
        ("strict", {}, "(`deterministic: strict`): an operation without one would have failed."),
        (True, {"nondeterministic_operations": []}, "(`deterministic: true`); no operation warned that it has none."),
        (True, {}, "(`deterministic: true`); whether an operation lacks one is not recorded."),
    ],
)
def test_tier_of_determinism_is_stated(tmp_path: Path, deterministic: Any, determinism: Any, sentence: str) -> None:
    text = card(tmp_path, replace(CONFIG, deterministic=deterministic), provenance={"determinism": determinism})
    assert f"{sentence} Promised: same machine class, same bits." in text


def test_checklist_stands_in_the_card_as_it_is_handed_in(tmp_path: Path) -> None:
    assert "\nChecklist: not recorded.\n" in section(card(tmp_path), "Reproducibility")
    text = section(card(tmp_path, checklist=[Check("Metrics logged", "failed", "No `step` 3.")]), "Reproducibility")
    assert row(text.partition("### Checklist")[2], "Metrics logged") == ["Metrics logged", "failed", "No `step` 3."]


def test_same_files_give_the_same_bytes_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_model_card(write_run(tmp_path / "a")).read_bytes()
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path / "b")
    assert write_model_card(run).read_bytes() == first
    assert write_model_card(run).read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_run_directory_gives_the_card_of_its_facts(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert write_model_card(run) == run.model_card
    assert run.model_card.read_text(encoding="utf-8") == card(tmp_path)


def test_run_that_has_only_begun_has_a_card_too(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    for file in (run.metrics, run.provenance, run.status, run.metrics_log):
        file.unlink()
    text = write_model_card(run).read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert "Figures: not recorded." in text


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not the directory of a run: it has no config\.json"):
        write_model_card(RunDirectory(tmp_path))
    run = write_run(tmp_path)
    run.metrics_log.write_text('{"epoch": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1: not an entry of metrics"):
        write_model_card(run)
    run.provenance.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"provenance\.json: not a JSON file"):
        write_model_card(run)


def test_card_needs_no_torch() -> None:
    program = (
        "import sys, reprise.tools.model_card; print(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_card_says_how_many_processes_shared_the_run_and_how_to_start_them(tmp_path: Path) -> None:
    shared = replace(CONFIG, training=replace(CONFIG.training, num_microbatches=4))
    text = card(tmp_path, shared, provenance=changed(PROVENANCE, hardware__num_processes=2))
    assert re.search(r"\| Processes +\| 2, ddp +\|", text)
    assert "\ntorchrun --nproc-per-node 2 scripts/train.py experiment=pets " in text
    assert " training.num_microbatches=4\n" in text
    assert "Processes" not in card(tmp_path)


def rendered(tmp_path: Path, template: str, **files: Any) -> str:
    run = write_run(tmp_path)
    run.card_template.write_text(template, encoding="utf-8")
    for name, values in files.items():
        getattr(run, name).write_text(json.dumps(values), encoding="utf-8")
    return write_model_card(run).read_text(encoding="utf-8").split("\n---\n\n", 1)[1]


def test_template_beside_the_card_replaces_its_text_but_not_its_metadata(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.card_template.write_text("# {{ facts.model_name }}\n\n{{ scores.values.accuracy | score('accuracy') }}\n")
    text = write_model_card(run).read_text(encoding="utf-8")
    assert text.startswith("---\n")
    assert metadata(text) == metadata(card(tmp_path))
    assert text.endswith("---\n\n# model\n\n96.25 %\n")


def test_template_can_extend_the_one_of_the_engine(tmp_path: Path) -> None:
    template = (
        '{% extends "card.md.jinja" %}\n{% block limitations %}\nMine: {{ declared("limitations") }}{% endblock %}\n'
        "{% block summary %}{{ super() }}\nAnd more.\n{% endblock %}"
    )
    text = rendered(tmp_path, template)
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert section(text, "Limitations").strip() == "Mine: **To be written**: `card.limitations`"
    assert "still to be written: `card.description`" in text
    assert "And more." in text


def test_values_are_escaped_unless_a_filter_of_the_engine_makes_markdown(tmp_path: Path) -> None:
    hostile = changed(PROVENANCE, data__name="# **b** <i> | `x`")
    escaped = r"\# \*\*b\*\* &lt;i&gt; \| \`x\`"
    for template in (
        "{{ facts.data_name }}",
        "{{ facts.data_name | safe }}",
        "{{ facts.data_name | string }}",
        "{% set name = facts.data_name ~ '' %}{{ name }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(facts.data_name) }}",
        "{{ [facts.data_name] | join }}",
        "{{ '%s' | format(facts.data_name) }}",
        "{{ (facts.data_name | prose | string) and facts.data_name }}",
    ):
        assert rendered(tmp_path / str(abs(hash(template))), template, provenance=hostile).strip() == escaped, template
    for number, template in enumerate(("{{ ('a' | code) ~ facts.data_name }}", "{{ ('a' | code) + facts.data_name }}")):
        text = rendered(tmp_path / str(number), template, provenance=hostile)
        assert "<i>" not in text
        assert "**b**" not in text


def test_what_a_file_does_not_hold_is_not_recorded_and_a_misspelled_name_is_an_error(tmp_path: Path) -> None:
    assert rendered(tmp_path / "a", "{{ provenance.no.such.fact }}") == "not recorded\n"
    with pytest.raises(InputError, match=r"model_card\.md\.jinja, line 2: .*hedline"):
        rendered(tmp_path / "b", "\n{{ scores.hedline }}")
    with pytest.raises(InputError, match=r"model_card\.md\.jinja, line 1: 'resluts' is undefined"):
        rendered(tmp_path / "c", "{{ resluts.epoch }}")
    with pytest.raises(InputError, match=r"model_card\.md\.jinja, line 2: "):
        rendered(tmp_path / "d", "\n{% if %}")


@pytest.mark.parametrize(
    "expression",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ facts.__class__.__init__.__globals__ }}",
        "{{ facts['__class__'] }}",
        "{{ (facts | attr('__class__')).__init__.__globals__ }}",
        "{{ scores.hardest_classes.__globals__['__builtins__']['open']('marker', 'w') }}",
        "{{ cycler.__init__.__globals__.os.system('touch marker') }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(facts) }}",
        "{{ config.clear() }}",
        "{{ facts.labels.append('x') }}",
        '{% include "/etc/passwd" %}',
        '{% extends "../../secret.jinja" %}',
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_template_of_a_run_directory_reaches_nothing_but_the_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"model_card\.md\.jinja"):
        rendered(tmp_path, expression)
    assert not (tmp_path / "marker").exists()


def test_objects_that_a_template_sees_are_plain(tmp_path: Path) -> None:
    from reprise.tools.model_card import facts as module
    from reprise.tools.model_card import scores

    plain = (str, int, float, bool, type(None), list, tuple, dict)
    ours = (module.CardFacts, module.Split, scores.Scores, scores.ConfusionMatrix, scores.ClassFigures, MetricEntry)

    def check(value: Any) -> None:
        assert isinstance(value, (*plain, *ours, Check)), type(value)
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                check(item)
        elif isinstance(value, ours):
            for name in dir(value):
                if not name.startswith("_") and name != "hardest_classes":
                    check(getattr(value, name))

    check(
        module.CardFacts(CONFIG.to_dict(), METRICS, PROVENANCE, RESULTS, STATUS, history(3), [Check("a", "passed", "")])
    )


def test_missing_template_of_a_run_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    values = CONFIG.to_dict() | {
        "callbacks": {"model_card": {"_target_": "reprise.tools.model_card.callback.ModelCard", "template": "a.jinja"}}
    }
    run.config.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"model_card\.md\.jinja is missing"):
        write_model_card(run)


def test_only_jinja_files_below_the_current_directory_can_be_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprise.tools.model_card.callback import ModelCard

    (tmp_path / "here").mkdir()
    (tmp_path / "outside.jinja").write_text("x")
    (tmp_path / "here" / "card.txt").write_text("x")
    (tmp_path / "here" / "card.jinja").write_text("x")
    (tmp_path / "here" / "link.jinja").symlink_to(tmp_path / "outside.jinja")
    monkeypatch.chdir(tmp_path / "here")
    ModelCard("card.jinja")
    for path in ("../outside.jinja", str(tmp_path / "outside.jinja"), "card.txt", "link.jinja", "none.jinja"):
        with pytest.raises(InputError, match="template"):
            ModelCard(path)
