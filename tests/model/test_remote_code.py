# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints carry their code: they load without the package and without Triton, and leave the package alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dill
import pytest
import torch
import transformers
from transformers import dynamic_module_utils

import modeling_gau
from modeling_gau import GAUForMaskedLM
from modeling_gau.attention_gau import ATTENTION_BACKENDS, register_attention_backend


ROOT = Path(__file__).parents[2]
HEADS = {
    "AutoModel": "GAUModel",
    "AutoModelForMaskedLM": "GAUForMaskedLM",
    "AutoModelForMultipleChoice": "GAUForMultipleChoice",
    "AutoModelForQuestionAnswering": "GAUForQuestionAnswering",
    "AutoModelForSequenceClassification": "GAUForSequenceClassification",
    "AutoModelForTokenClassification": "GAUForTokenClassification",
}
SOURCES = {f"{name}_gau.py" for name in ("attention", "configuration", "kernels", "modeling", "unpadding")}
AUTO_MAP = {"AutoConfig": "configuration_gau.GAUConfig"} | {auto: f"modeling_gau.{HEADS[auto]}" for auto in HEADS}
SENTENCE = "w5 w6 [MASK] w8"

# Runs in another process. None in sys.modules makes an import fail whichever way the package was installed; the module
# that comes with a checkpoint is called modeling_gau as well, but lives inside transformers_modules.
PROCESS = """
import importlib, json, sys
from pathlib import Path

sys.modules["modeling_gau"] = sys.modules["triton"] = None
folder, root, sentence = Path(sys.argv[1]), *sys.argv[2:]

import torch, transformers
from transformers import AutoConfig, pipeline

facts = {"modules": {}, "config": {}}
try:
    import modeling_gau
except ModuleNotFoundError as error:
    facts["import_error"] = str(error)

inputs = torch.load(folder / "inputs.pt")

def outputs_of(model, head):
    with torch.no_grad():
        return [*model.eval()(**inputs[head], return_dict=True).values()]

for head in inputs:
    facts["config"][head] = type(AutoConfig.from_pretrained(folder / head, trust_remote_code=True)).__module__
facts["loaded_with_configurations"] = [name for name in sys.modules if name.startswith("transformers_modules.")]

outputs, loaded = {}, {}
for head in inputs:
    loaded[head] = getattr(transformers, head).from_pretrained(folder / head, trust_remote_code=True)
    facts["modules"][head] = type(loaded[head]).__module__
    outputs[head] = outputs_of(loaded[head], head)

head = "AutoModelForMaskedLM"
model = loaded[head]
model.set_attn_implementation("gau_triton")
try:
    model(**inputs[head])
except ValueError as error:
    facts["without_triton"] = str(error)
model.set_attn_implementation("gau_blocked")
outputs["blocked"] = outputs_of(model, head)

fill = pipeline("fill-mask", model=str(folder / head), trust_remote_code=True)
facts["filled"] = [(answer["token"], answer["score"]) for answer in fill(sentence, top_k=3)]
model.save_pretrained(folder / "again")

# The package becomes importable after its copies were loaded.
del sys.modules["modeling_gau"]
sys.path.insert(0, root)
package = importlib.import_module("modeling_gau")
facts["package_file"] = package.__file__
own = package.GAUForMaskedLM.from_pretrained(folder / head, attn_implementation="gau_blocked")
outputs["package"], outputs["remote beside the package"] = outputs_of(own, head), outputs_of(model, head)
torch.save(outputs, folder / "outputs.pt")
(folder / "facts.json").write_text(json.dumps(facts))
"""


class OwnHead(GAUForMaskedLM):
    """A user's class, in a file of the user's."""


def make_inputs(*shape: int) -> dict[str, torch.Tensor]:
    """Token ids of the given shape, padded on the right in the first row and on the left in the second."""
    mask = torch.ones(shape, dtype=torch.long)
    mask[0, ..., 5:], mask[1, ..., :3] = 0, 0
    ids = torch.randint(5, 60, shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids * mask, "attention_mask": mask}


def outputs_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model.eval()(**inputs, return_dict=True).values())


@pytest.fixture(scope="module")
def inputs() -> dict[str, dict[str, torch.Tensor]]:
    return {head: make_inputs(2, 3, 9) if "Choice" in head else make_inputs(2, 9) for head in HEADS}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, inputs, make_model, tokenizer) -> Path:
    """A folder with one checkpoint per head, written by the package."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save(inputs, folder / "inputs.pt")
    for head, name in HEADS.items():
        make_model(getattr(modeling_gau, name), num_hidden_layers=2, num_labels=3).save_pretrained(folder / head)
    tokenizer.save_pretrained(folder / "AutoModelForMaskedLM")
    return folder


@pytest.fixture(scope="module")
def facts(checkpoints) -> dict:
    """What the process without the package reported, with the outputs of its models."""
    command = [sys.executable, "-c", PROCESS, str(checkpoints), str(ROOT), SENTENCE]
    cache = {"HF_HOME": str(checkpoints / "cache"), "HF_MODULES_CACHE": str(checkpoints / "cache" / "modules")}
    environment = os.environ | cache | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.run(command, cwd=checkpoints, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads((checkpoints / "facts.json").read_text()) | {"outputs": torch.load(checkpoints / "outputs.pt")}


@pytest.mark.parametrize("head", HEADS)
def test_checkpoint_holds_its_code(checkpoints, head):
    sources = {path.name for path in (checkpoints / head).glob("*.py")}
    assert sources == SOURCES
    for name in sources:
        assert (checkpoints / head / name).read_bytes() == (ROOT / "modeling_gau" / name).read_bytes()
    auto_map = json.loads((checkpoints / head / "config.json").read_text())["auto_map"]
    assert auto_map == AUTO_MAP


def test_process_has_no_package(facts):
    assert "modeling_gau" in facts["import_error"]
    assert set(facts["modules"]) == set(facts["config"]) == set(HEADS)
    for module in [*facts["modules"].values(), *facts["config"].values()]:
        assert module.startswith("transformers_modules.")


def test_a_configuration_alone_loads_no_attention(facts):
    loaded = facts["loaded_with_configurations"]
    assert loaded and not any(name.endswith((".attention_gau", ".kernels_gau")) for name in loaded)


def test_without_triton_its_backend_says_what_it_needs(facts):
    assert "'gau_triton' needs Triton, which is not installed" in facts["without_triton"]
    assert "'gau_blocked'" in facts["without_triton"]


@pytest.mark.parametrize("head", HEADS)
def test_remote_code_gives_the_same_outputs(checkpoints, inputs, facts, head):
    model = getattr(transformers, head).from_pretrained(checkpoints / head)
    assert type(model) is getattr(modeling_gau, HEADS[head])
    torch.testing.assert_close(facts["outputs"][head], outputs_of(model, inputs[head]))


@pytest.mark.parametrize("which", ["blocked", "package", "remote beside the package"])
def test_blocked_attention_is_the_same_in_remote_code_and_in_a_package_imported_later(
    checkpoints, inputs, facts, which
):
    assert Path(facts["package_file"]).parent == ROOT / "modeling_gau"
    head = "AutoModelForMaskedLM"
    model = GAUForMaskedLM.from_pretrained(checkpoints / head, attn_implementation="gau_blocked")
    torch.testing.assert_close(facts["outputs"][which], outputs_of(model, inputs[head]))


def test_pipeline_with_remote_code(checkpoints, facts, tokenizer):
    batch = tokenizer(SENTENCE, return_tensors="pt")
    model = GAUForMaskedLM.from_pretrained(checkpoints / "AutoModelForMaskedLM")
    masked = batch.input_ids[0].tolist().index(tokenizer.mask_token_id)
    scores, ids = outputs_of(model, batch)[0][0, masked].softmax(-1).topk(3)
    assert [token for token, _ in facts["filled"]] == ids.tolist()
    assert [score for _, score in facts["filled"]] == pytest.approx(scores.tolist(), rel=1e-4)


def test_remote_model_saves_its_code_again(checkpoints, inputs, facts):
    """Fine-tuned somewhere without the package, a checkpoint still carries its code."""
    head = "AutoModelForMaskedLM"
    for source in (checkpoints / head).glob("*.py"):
        assert (checkpoints / "again" / source.name).read_bytes() == source.read_bytes()
    assert json.loads((checkpoints / "again" / "config.json").read_text())["auto_map"] == AUTO_MAP
    again = GAUForMaskedLM.from_pretrained(checkpoints / "again")
    torch.testing.assert_close(outputs_of(again, inputs[head]), facts["outputs"][head])


@pytest.fixture
def modules_cache(tmp_path, monkeypatch):
    """Remote code goes to a folder of its own, and what it left in the interpreter is removed afterwards."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    # Remote code registers its own functions under the names of the package's, which later tests would go on with.
    for name, backend in list(ATTENTION_BACKENDS.items()):
        register_attention_backend(name, backend)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "transformers_modules":
            del sys.modules[name]


def _load(folder: Path, head: str) -> torch.nn.Module:
    # Multiple choice has a classifier, too, of one row.
    auto = getattr(transformers, head)
    return auto.from_pretrained(folder, trust_remote_code=True, ignore_mismatched_sizes=True)


def _load_every_class_from_every_checkpoint(checkpoints: Path) -> None:
    for saved in HEADS:
        expected = _load(checkpoints / saved, saved).base_model.state_dict()
        for head, name in HEADS.items():
            loaded = _load(checkpoints / saved, head)
            assert type(loaded).__name__ == name and type(loaded).__module__.startswith("transformers_modules.")
            torch.testing.assert_close(loaded.base_model.state_dict(), expected, rtol=0, atol=0)


def test_every_checkpoint_loads_under_every_class(checkpoints, modules_cache, in_fork_without_package):
    in_fork_without_package(_load_every_class_from_every_checkpoint, checkpoints)


def _save_again(checkpoints: Path, folder: Path) -> None:
    for head in HEADS:
        _load(checkpoints / "AutoModelForMaskedLM", head).save_pretrained(folder / head)
        assert json.loads((folder / head / "config.json").read_text())["auto_map"] == AUTO_MAP
        assert {path.name for path in (folder / head).glob("*.py")} == SOURCES
    assert type(_load(folder / "AutoModel", "AutoModelForMultipleChoice")).__name__ == "GAUForMultipleChoice"


def test_a_head_put_on_remote_code_is_saved_for_every_class(
    checkpoints, tmp_path, modules_cache, in_fork_without_package
):
    in_fork_without_package(_save_again, checkpoints, tmp_path)


def test_a_class_of_ones_own_names_only_itself(tmp_path, make_model):
    """Its file is saved, but ours are not beside it."""
    model = make_model(OwnHead, num_hidden_layers=1)
    model.save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    own = f"{__name__.rpartition('.')[2]}.OwnHead"
    assert auto_map == {"AutoConfig": "configuration_gau.GAUConfig", "AutoModelForMaskedLM": own}


def _pickle(checkpoints: Path) -> None:
    """What `datasets.map(num_proc=2)` does with a model that its function uses."""
    for head in HEADS:
        model = _load(checkpoints / "AutoModelForMaskedLM", head)
        again = dill.loads(dill.dumps(model))
        assert type(again) is type(model) and type(again.config) is type(model.config)
        assert len(dill.dumps((type(model), type(model.config)))) < 1000  # by reference, not by value
        torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_remote_model_is_pickled_by_dill(checkpoints, modules_cache, in_fork_without_package):
    in_fork_without_package(_pickle, checkpoints)


def test_other_code_in_the_same_process_changes_nothing(tmp_path, modules_cache, make_model):
    """PyTorch's operators are global: the one of a checkpoint with other code must not replace the package's."""
    model = make_model(backend="gau_blocked")
    folder = tmp_path / "gau-tiny.v1"
    model.save_pretrained(folder)
    batch = make_inputs(2, 9)
    expected = outputs_of(model, batch)
    begun = model(**batch).logits  # its backward pass runs after the other code is loaded

    other = 'ATTENTION_NORMALIZATIONS["softmax_plus"] = AttentionNormalization("squared_relu", sum_normalized=True)'
    with open(folder / "attention_gau.py", "a") as source:
        source.write(f"\n\n{other}\n")
    remote_class = dynamic_module_utils.get_class_from_dynamic_module("modeling_gau.GAUForMaskedLM", str(folder))
    assert remote_class.__module__.startswith("transformers_modules.")
    remote = remote_class.from_pretrained(folder, attn_implementation="gau_blocked")

    assert (outputs_of(remote, batch)[0] - expected[0]).abs().max() > 0.1
    torch.testing.assert_close(outputs_of(model, batch), expected, rtol=0, atol=0)
    begun.square().mean().backward()
    late = model.model.layers[0].gau.i_dense.weight.grad.clone()
    model.zero_grad()
    model(**batch).logits.square().mean().backward()
    torch.testing.assert_close(late, model.model.layers[0].gau.i_dense.weight.grad)
