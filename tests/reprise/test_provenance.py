import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_loop import CPU, Net, make_split

import reprise
from reprise.config.secrets import without_credentials
from reprise.data import Data, Description, describe_data, fingerprint, stack
from reprise.models import describe_model
from reprise.randomness import set_determinism
from reprise.runs import provenance
from reprise.runs.provenance import (
    _not_as_locked,
    code_patch,
    collect_provenance,
    determinism_in_force,
    drift,
)
from reprise.runs.provenance_file import ProvenanceFile
from reprise.runs.run_directory import RunDirectory


def test_facts_are_measured_and_can_be_written_down():
    facts = collect_provenance(["experiment=base", "seed=1"], CPU)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["command"] == {"argv": sys.argv, "overrides": ["experiment=base", "seed=1"]}
    packages = facts["environment"]["packages"]
    assert packages["torch"] == torch.__version__.split("+")[0] or packages["torch"] == torch.__version__
    assert packages["numpy"] == np.__version__
    assert list(packages) == sorted(packages, key=str.lower)
    assert facts["environment"]["python"] == sys.version.split()[0]
    assert facts["hardware"]["num_threads"] == torch.get_num_threads()
    assert facts["hardware"]["device"] == "cpu"
    assert facts["hardware"]["memory_bytes"] > 2**28


@pytest.mark.parametrize(("deterministic", "mode"), [(False, "default"), (True, "warn"), ("strict", "error")])
def test_what_decides_about_bits_is_read_from_torch_not_from_the_config(monkeypatch, deterministic, mode):
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    set_determinism(deterministic)
    torch.set_num_threads(1)
    facts = determinism_in_force()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["debug_mode"], facts["num_threads"], facts["PYTHONHASHSEED"]) == (mode, 1, "7")
    assert facts["MKL_CBWR"] is None


def test_the_version_of_the_engine_is_recorded_and_counts_as_drift():
    facts = collect_provenance([], CPU)
    assert facts["code"]["reprise"] == reprise.__version__
    newer = {**facts, "code": {**facts["code"], "reprise": "99.0"}}
    assert [(fact.key, fact.second) for fact in drift(facts, newer)] == [("code.reprise", "99.0")]


def test_the_template_has_the_version_of_its_engine():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    if project["name"] != "reprise":
        pytest.skip("an adopted project has a version of its own")
    assert project["version"] == reprise.__version__
    assert yaml.safe_load((root / "CITATION.cff").read_text())["version"] == reprise.__version__


def test_the_commit_is_the_one_that_is_checked_out():
    code = collect_provenance([], CPU)["code"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("not a git checkout")
    assert code["commit"] == head.stdout.strip()
    assert type(code["dirty"]) is bool


@pytest.mark.parametrize(
    ("remote", "kept"),
    [
        ("https://user:token@example.com/a/b.git", "https://example.com/a/b.git"),
        ("https://token@example.com:8443/a/b.git?private_token=x#y", "https://example.com:8443/a/b.git"),
        ("ssh://git@example.com/a/b.git", "ssh://example.com/a/b.git"),
        ("https://example.com/a/b.git", "https://example.com/a/b.git"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        ("/srv/git/b.git", "/srv/git/b.git"),
        (None, None),
    ],
)
def test_the_address_of_the_code_holds_no_secrets(remote, kept):
    assert without_credentials(remote) == kept


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the folder of a project that the code lies in."""
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "src" / "reprise" / "runs" / "provenance.py"))
    lock = "numpy==2.2 ; python_full_version < '3.12' \\\n    --hash=sha256:11\nnumpy==2.4 \\\n    --hash=sha256:22\n"
    (tmp_path / "requirements.lock").write_text(lock)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "My.Project"\n')
    return tmp_path


def test_a_package_may_be_locked_in_several_versions_for_several_pythons(project):
    for version in ("2.2", "2.4", "2.4+cpu"):
        assert _not_as_locked({"numpy": version}) == {}
    assert _not_as_locked({"NumPy": "0.1"}) == {"numpy": ["2.2 or 2.4", "0.1"]}


def test_a_package_that_the_lock_lacks_is_named_and_what_installs_is_not(project):
    assert _not_as_locked({"unheard-of": "1", "Un.heard": "2", "numpy": "2.4"}) == {
        "unheard-of": ["not locked", "1"],
        "un-heard": ["not locked", "2"],
    }
    installing = {"pip": "1", "uv": "1", "wheel": "0", "my-project": "0.1"}
    assert _not_as_locked(installing) == {}
    (project / "pyproject.toml").unlink()
    assert _not_as_locked(installing) == {"my-project": ["not locked", "0.1"]}
    (project / "requirements.lock").unlink()
    assert _not_as_locked(installing) is None


LOCK = """\
version = 1

[[package]]
name = "numpy"
version = "2.4"
source = { registry = "index" }
wheels = [{ path = "numpy-2.4.whl", hash = "sha256:11" }]
"""


def test_a_lock_that_differs_in_addresses_alone_is_no_change_of_the_code(project, tmp_path):
    for name, text in (("src/reprise/runs/provenance.py", "code"), ("uv.lock", LOCK)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *arguments], check=True)

    def is_changed():
        return collect_provenance([], CPU)["code"]["dirty"], b"uv.lock" in (code_patch() or b"")

    assert is_changed() == (False, False)
    filled = LOCK.replace('"index"', '"https://example.org/simple"').replace('path = "', 'url = "https://example.org/')
    (tmp_path / "uv.lock").write_text(filled)
    assert is_changed() == (False, False)
    (tmp_path / "src" / "reprise" / "runs" / "provenance.py").write_text("other code")
    assert is_changed() == (True, False)
    (tmp_path / "uv.lock").write_text(filled.replace("2.4", "2.5"))
    assert is_changed() == (True, True)
    (tmp_path / "uv.lock").write_text(filled.replace("sha256:11", "sha256:22"))
    assert is_changed() == (True, True)


def test_a_patch_is_recorded_by_its_hash():
    assert collect_provenance([], CPU)["code"]["patch_sha256"] is None
    assert collect_provenance([], CPU, b"patch")["code"]["patch_sha256"] == hashlib.sha256(b"patch").hexdigest()


def test_a_data_set_is_described_with_the_size_and_fingerprint_of_each_split():
    description = Description(
        name="pets", task="image-classification", labels=("cat", "dog"), fingerprints={"train": "ab", "val": "cd"}
    )
    data = Data(splits={"train": make_split(5), "val": make_split(3)}, collate=stack, description=description)
    described = describe_data(data)
    assert json.loads(json.dumps(described)) == described
    assert described["splits"] == {
        "train": {"num_samples": 5, "sha256": "ab"},
        "val": {"num_samples": 3, "sha256": "cd"},
    }
    assert (described["name"], described["labels"], described["language"]) == ("pets", ["cat", "dog"], None)


def test_a_model_is_described_with_its_size_and_the_hash_of_its_weights():
    torch.manual_seed(0)
    model = Net()
    model.linear.bias.requires_grad_(False)
    facts = describe_model(model)
    assert facts["class"] == "tiny_loop.Net"
    assert facts["library"] == "pytorch"
    assert (facts["num_parameters"], facts["num_trained_parameters"]) == (15, 12)
    torch.manual_seed(0)
    assert describe_model(Net())["initial_sha256"] == facts["initial_sha256"]
    assert describe_model(Net())["initial_sha256"] != facts["initial_sha256"]


def test_facts_are_added_and_what_is_there_already_stays(tmp_path):
    directory = RunDirectory(tmp_path)
    other_process = ProvenanceFile(directory, is_writable=False)
    other_process.begin()
    other_process.add_parts(lambda: {"data": {"name": "pets"}})
    assert not directory.provenance.exists()
    directory.provenance.write_text('{"created": "first"}')
    provenance = ProvenanceFile(directory, {"created": "second"}, b"another patch")
    provenance.begin()
    provenance.add_parts(lambda: {"created": "third", "data": {"name": "pets"}})
    facts = json.loads(directory.provenance.read_text())
    assert facts.pop("determinism")["nondeterministic_operations"] == []
    assert facts == {"created": "first", "data": {"name": "pets"}}
    assert not directory.code_patch.exists()


def test_a_fingerprint_is_of_content_type_and_shape():
    contents = [
        (torch.zeros(2, 3),),
        (torch.zeros(3, 2),),
        (torch.zeros(2, 3, dtype=torch.float64),),
        (torch.ones(2, 3),),
        (torch.zeros(2, 3), torch.zeros(1)),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("ab", "c", ""),
        (),
    ]
    assert len({fingerprint(*content) for content in contents}) == len(contents)
    assert fingerprint(torch.zeros(2, 3)) == fingerprint(np.zeros((2, 3), dtype=np.float32))
    assert fingerprint(torch.arange(6).reshape(2, 3).t()) == fingerprint(np.arange(6).reshape(2, 3).T.copy())
    assert fingerprint(["ab", "c"]) == fingerprint("ab", "c") == hashlib.sha256(b"2:ab1:c").hexdigest()
