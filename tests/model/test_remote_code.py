# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints carry their code: they load where the package is missing, and beside the package without touching it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, dynamic_module_utils

import modeling_gau
from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.attention_gau import ATTENTION_BACKENDS, register_attention_backend


ROOT = Path(__file__).parents[2]
VOCABULARY = ["[PAD]", "[UNK]", "[MASK]", *"abcdefghijklmnop"]
HEADS = {
    "AutoModel": "GAUModel",
    "AutoModelForMaskedLM": "GAUForMaskedLM",
    "AutoModelForMultipleChoice": "GAUForMultipleChoice",
    "AutoModelForQuestionAnswering": "GAUForQuestionAnswering",
    "AutoModelForSequenceClassification": "GAUForSequenceClassification",
    "AutoModelForTokenClassification": "GAUForTokenClassification",
}
BACKENDS = (None, "gau_blocked")
SENTENCE = "a b [MASK] d"

# Runs in another process. None in sys.modules makes an import fail whichever way the package was installed; the module
# that comes with a checkpoint is called modeling_gau as well, but lives inside transformers_modules.
PROCESS = """
import importlib, json, sys
from pathlib import Path

sys.modules["modeling_gau"] = None
folder, root, backends = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

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

remote, loaded = {}, {}
for head in inputs:
    facts["config"][head] = type(AutoConfig.from_pretrained(folder / head, trust_remote_code=True)).__module__
    for backend in backends:
        model = getattr(transformers, head).from_pretrained(
            folder / head, trust_remote_code=True, attn_implementation=backend
        )
        loaded[head, backend], remote[head, backend] = model, outputs_of(model, head)
        facts["modules"][head] = type(model).__module__
torch.save(remote, folder / "remote.pt")

fill = pipeline("fill-mask", model=str(folder / "AutoModelForMaskedLM"), trust_remote_code=True)
filled = fill(sys.argv[4], top_k=3)
facts["filled"] = [(answer["token_str"], answer["score"]) for answer in filled]
loaded["AutoModelForMaskedLM", None].save_pretrained(folder / "again")

# The package becomes importable after its copies were loaded.
del sys.modules["modeling_gau"]
sys.path.insert(0, root)
package = importlib.import_module("modeling_gau")
head = "AutoModelForMaskedLM"
both = {}
for backend in backends:
    model = package.GAUForMaskedLM.from_pretrained(folder / head, attn_implementation=backend)
    both[backend] = {"package": outputs_of(model, head), "remote": outputs_of(loaded[head, backend], head)}
torch.save(both, folder / "both.pt")
facts["package_file"] = package.__file__
(folder / "facts.json").write_text(json.dumps(facts))
"""


def make_config(**kwargs) -> GAUConfig:
    # Weights far from their initialization: otherwise a dropped mask or a wrong scale would hardly change the outputs.
    return GAUConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        attention_key_size=8,
        num_hidden_layers=2,
        initializer_range=0.5,
        **kwargs,
    )


def make_inputs(*shape: int) -> dict[str, torch.Tensor]:
    """Token ids of the given shape, padded on the right in the first row and on the left in the second."""
    mask = torch.ones(shape, dtype=torch.long)
    mask[0, ..., 5:], mask[1, ..., :3] = 0, 0
    ids = torch.randint(3, len(VOCABULARY), shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids * mask, "attention_mask": mask}


def make_tokenizer() -> PreTrainedTokenizerFast:
    model = models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def outputs_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model.eval()(**inputs, return_dict=True).values())


@pytest.fixture(scope="module")
def inputs() -> dict[str, dict[str, torch.Tensor]]:
    return {head: make_inputs(2, 3, 9) if "Choice" in head else make_inputs(2, 9) for head in HEADS}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, inputs) -> Path:
    """A folder with one checkpoint per head, written by the package."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save(inputs, folder / "inputs.pt")
    for seed, (head, name) in enumerate(HEADS.items()):
        torch.manual_seed(seed)
        getattr(modeling_gau, name)(make_config(num_labels=3)).save_pretrained(folder / head)
    make_tokenizer().save_pretrained(folder / "AutoModelForMaskedLM")
    return folder


@pytest.fixture(scope="module")
def facts(checkpoints) -> dict:
    """What the process without the package reported; its outputs lie in the folder of the checkpoints."""
    command = [sys.executable, "-c", PROCESS, str(checkpoints), str(ROOT), json.dumps(BACKENDS), SENTENCE]
    cache = {"HF_HOME": str(checkpoints / "cache"), "HF_MODULES_CACHE": str(checkpoints / "cache" / "modules")}
    environment = os.environ | cache | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.run(command, cwd=checkpoints, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads((checkpoints / "facts.json").read_text())


@pytest.mark.parametrize("head", HEADS)
def test_checkpoint_holds_its_code(checkpoints, head):
    sources = {path.name for path in (checkpoints / head).glob("*.py")}
    names = ("attention", "configuration", "kernels", "modeling", "unpadding")
    assert sources == {f"{name}_gau.py" for name in names}
    for name in sources:
        assert (checkpoints / head / name).read_bytes() == (ROOT / "modeling_gau" / name).read_bytes()
    auto_map = json.loads((checkpoints / head / "config.json").read_text())["auto_map"]
    assert auto_map == {"AutoConfig": "configuration_gau.GAUConfig", head: f"modeling_gau.{HEADS[head]}"}


def test_process_has_no_package(facts):
    assert "modeling_gau" in facts["import_error"]
    assert set(facts["modules"]) == set(facts["config"]) == set(HEADS)
    for module in [*facts["modules"].values(), *facts["config"].values()]:
        assert module.startswith("transformers_modules.")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("head", HEADS)
def test_remote_code_gives_the_same_outputs(checkpoints, inputs, facts, head, backend):
    model = getattr(transformers, head).from_pretrained(checkpoints / head, attn_implementation=backend)
    assert type(model) is getattr(modeling_gau, HEADS[head])
    expected = outputs_of(model, inputs[head])
    remote = torch.load(checkpoints / "remote.pt")[head, backend]
    torch.testing.assert_close(remote, expected)


def test_pipeline_with_remote_code(checkpoints, facts):
    batch = make_tokenizer()(SENTENCE, return_tensors="pt")
    model = GAUForMaskedLM.from_pretrained(checkpoints / "AutoModelForMaskedLM")
    masked = batch.input_ids[0].tolist().index(VOCABULARY.index("[MASK]"))
    scores, ids = outputs_of(model, batch)[0][0, masked].softmax(-1).topk(3)
    assert [token for token, _ in facts["filled"]] == [VOCABULARY[i] for i in ids]
    assert [score for _, score in facts["filled"]] == pytest.approx(scores.tolist(), rel=1e-4)


def test_remote_model_saves_its_code_again(checkpoints, inputs, facts):
    """Fine-tuned somewhere without the package, a checkpoint still carries its code."""
    head = "AutoModelForMaskedLM"
    for source in (checkpoints / head).glob("*.py"):
        assert (checkpoints / "again" / source.name).read_bytes() == source.read_bytes()
    auto_map = json.loads((checkpoints / "again" / "config.json").read_text())["auto_map"]
    assert auto_map == json.loads((checkpoints / head / "config.json").read_text())["auto_map"]
    expected = outputs_of(GAUForMaskedLM.from_pretrained(checkpoints / head), inputs[head])
    torch.testing.assert_close(
        outputs_of(GAUForMaskedLM.from_pretrained(checkpoints / "again"), inputs[head]), expected
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_package_imported_after_remote_code(checkpoints, facts, backend):
    assert Path(facts["package_file"]).parent == ROOT / "modeling_gau"
    both = torch.load(checkpoints / "both.pt")[backend]
    expected = torch.load(checkpoints / "remote.pt")["AutoModelForMaskedLM", backend]
    torch.testing.assert_close(both["package"], expected)
    torch.testing.assert_close(both["remote"], expected)


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


def test_other_code_in_the_same_process_changes_nothing(tmp_path, modules_cache):
    """PyTorch's operators are global: the one of a checkpoint with other code must not replace the package's."""
    torch.manual_seed(0)
    model = GAUForMaskedLM._from_config(make_config(), attn_implementation="gau_blocked").eval()
    folder = tmp_path / "gau-tiny.v1"
    model.save_pretrained(folder)
    batch = make_inputs(2, 9)
    expected = outputs_of(model, batch)
    begun = model(**batch).logits  # its backward pass runs after the other code came

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
