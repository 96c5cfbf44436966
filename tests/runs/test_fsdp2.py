# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""FSDP2 through the Trainer and accelerate, in processes on the CPU (`fsdp2_worker.py`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.modeling_gau import AUTO_CLASSES
from modeling_gau.runs.optimizer_state import load_optimizer_state, save_optimizer_state


# Odd sizes: rows that no number of processes divides, and a table with fewer rows than there are processes.
CONFIG = {
    "vocab_size": 97,
    "hidden_size": 30,
    "intermediate_size": 50,
    "attention_key_size": 18,
    "num_hidden_layers": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "sparse_prediction": True,
}
WORKER = Path(__file__).with_name("fsdp2_worker.py")
FULL, SHARDED = "FULL_STATE_DICT", "SHARDED_STATE_DICT"
RUNS = [
    {"name": "one", "processes": 1},
    {"name": "full", "processes": 2, "sharding": FULL},
    {"name": "sharded", "processes": 2, "sharding": SHARDED},
    {"name": "again_2", "processes": 2, "sharding": SHARDED, "resume": "sharded/checkpoint-2"},
    {"name": "again_4", "processes": 4, "sharding": SHARDED, "resume": "sharded/checkpoint-2"},
    {"name": "from_4_to_1", "processes": 1, "sharding": FULL, "resume": "again_4/checkpoint-4"},
    {"name": "one_bf16", "processes": 1, "bf16": True},
    {"name": "bf16", "processes": 2, "sharding": FULL, "bf16": True},
    {"name": "muon_one", "processes": 1, "optim": "muon"},
    {"name": "muon", "processes": 2, "sharding": SHARDED, "optim": "muon"},
    {"name": "muon_again", "processes": 2, "sharding": SHARDED, "optim": "muon", "resume": "muon/checkpoint-2"},
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fsdp2")
    # Where there are GPUs, fully_shard takes them whatever the process group.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    plan = {"config": CONFIG, "runs": RUNS}
    command = [sys.executable, str(WORKER), str(directory), json.dumps(plan)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return directory


def result(runs: Path, name: str) -> dict:
    return json.loads((runs / name / "result.json").read_text())


def assert_same_curve(one: list, other: list, tolerance: float) -> None:
    """Losses and gradient norms, step by step."""
    assert len(one) == len(other) == 6
    assert one[0][0] - one[-1][0] > 0.3  # there is something to be the same
    for expected, found in zip(one, other, strict=True):
        assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", ["full", "sharded"])
def test_two_processes_train_as_one(runs, name):
    assert_same_curve(result(runs, "one")["steps"], result(runs, name)["steps"], 1e-5)


@pytest.mark.parametrize("name", ["again_2", "again_4", "from_4_to_1"])
def test_a_sharded_checkpoint_resumes_on_any_number_of_processes(runs, name):
    undisturbed, resumed = result(runs, "sharded")["steps"], result(runs, name)["steps"]
    assert_same_curve(undisturbed, resumed, 1e-5)
    if name == "again_2":
        assert resumed == undisturbed


def test_muon_orthogonalizes_whole_matrices_and_resumes(runs):
    steps = result(runs, "muon")["steps"]
    assert_same_curve(result(runs, "muon_one")["steps"], steps, 1e-4)
    assert result(runs, "muon_again")["steps"] == steps
    # Another optimizer takes another way.
    assert abs(steps[-1][0] - result(runs, "sharded")["steps"][-1][0]) > 1e-2


def test_weights_and_optimizer_are_split(runs):
    for name, processes in [("sharded", 2), ("again_4", 4)]:
        found = result(runs, name)
        for held, factor in zip(zip(*found["shares"], strict=True), (1, 2), strict=True):
            assert sum(held) == factor * found["parameters"]
            # The rows of the smallest tables cannot be split evenly.
            assert max(held) < 1.1 * factor * found["parameters"] / processes
        assert [unit for unit in found["units"] if "layers" in unit] == [f"model.layers.{i}" for i in range(3)]


@pytest.mark.parametrize("name", ["one", "full", "sharded", "from_4_to_1"])
def test_saved_models_load_and_are_tied(runs, name):
    assert result(runs, name)["tied"]
    weights = load_file(runs / name / "model.safetensors")
    assert "decoder.weight" not in weights
    model = GAUForMaskedLM.from_pretrained(runs / name).eval()
    assert model.decoder.weight is model.model.embeddings.word_embeddings.weight
    with torch.no_grad():
        logits = model(torch.arange(4, 24)[None]).logits
    torch.testing.assert_close(logits, torch.load(runs / name / "logits.pt"), rtol=1e-5, atol=1e-5)
    first, *others = weights["model.embeddings.token_type_embeddings.weight"]
    assert others and all(torch.equal(row, first) for row in others)
    # The last step is in them.
    early = load_file(runs / name.replace("from_4_to_1", "again_4") / "checkpoint-4" / "model.safetensors")
    assert all(not torch.equal(weights[key], early[key]) for key in weights)


@pytest.mark.parametrize("name", ["full", "sharded"])
def test_saved_models_carry_the_code_of_the_model(runs, name):
    for directory in (runs / name, runs / name / "checkpoint-2"):
        config = json.loads((directory / "config.json").read_text())
        assert config["auto_map"].keys() == {"AutoConfig", *AUTO_CLASSES}
        assert config["auto_map"]["AutoModelForMaskedLM"] == "modeling_gau.GAUForMaskedLM"
        assert config["architectures"] == ["GAUForMaskedLM"]
        code = {path.name for path in directory.glob("*.py")}
        assert code == {path.name for path in (runs / "one").glob("*.py")}
        assert "modeling_gau.py" in code


def test_bfloat16_keeps_loss_and_angles_in_float32(runs):
    expected, found = result(runs, "one_bf16"), result(runs, "bf16")
    assert_same_curve(expected["steps"], found["steps"], 5e-3)
    assert found["angles"] == "torch.float32"
    losses = torch.tensor(found["steps"])[:, 0]
    assert (losses.bfloat16().float() != losses).any()
    weights = load_file(runs / "bf16" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def make_optimizer(seed: int = 0, hidden_size: int = 30, **kwargs):
    torch.manual_seed(seed)
    model = GAUForMaskedLM(GAUConfig(**CONFIG | {"hidden_size": hidden_size}))
    groups = [{"params": [p for p in model.parameters() if (p.ndim > 1) == matrix]} for matrix in (True, False)]
    return model, torch.optim.AdamW([*groups], betas=(0.9, 0.98), **kwargs)


def step(model, optimizer, seed):
    ids = torch.randint(5, 97, (2, 12), generator=torch.Generator().manual_seed(seed))
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("lr", [1e-2, torch.tensor(1e-2)], ids=["number", "tensor"])
def test_optimizer_state_is_bit_equal_after_loading(tmp_path, lr):
    model, optimizer = make_optimizer(lr=lr, weight_decay=0.1)
    step(model, optimizer, 1)
    optimizer.param_groups[1]["lr"] = torch.tensor(1e-3) if isinstance(lr, torch.Tensor) else 1 / 3
    save_optimizer_state(tmp_path / "optimizer", model, optimizer)
    other, loaded = make_optimizer(seed=1, lr=lr)
    other.load_state_dict(model.state_dict())
    load_optimizer_state(tmp_path / "optimizer", other, loaded)
    for expected, found in zip(optimizer.param_groups, loaded.param_groups, strict=True):
        expected, found = (
            {key: value for key, value in group.items() if key != "params"} for group in (expected, found)
        )
        assert expected == found
        assert isinstance(found["betas"], tuple)
    for seed in (2, 3):
        step(model, optimizer, seed)
        step(other, loaded, seed)
    for (name, expected), found in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(expected, found), name
    assert {path.suffix for path in (tmp_path / "optimizer").iterdir()} == {".safetensors", ".json"}


def test_optimizer_state_of_shards_loads_without_them(runs):
    model, _ = make_optimizer(lr=1e-2)
    saved = runs / "again_4" / "checkpoint-6" / "optimizer"
    names = json.loads((saved / "settings.json").read_text())
    parameters = dict(model.named_parameters())
    groups = [{"params": [parameters[key] for key in names[f"groups/{i}/params"]]} for i in (0, 1)]
    optimizer = torch.optim.AdamW(groups, fused=True)
    optimizer.param_groups[0]["initial_lr"] = optimizer.param_groups[1]["initial_lr"] = 0.0
    load_optimizer_state(saved, model, optimizer)
    expected = torch.load(runs / "one" / "optimizer_state.pt")
    assert len(expected) == len(parameters)
    for index, parameter in enumerate([*groups[0]["params"], *groups[1]["params"]]):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(optimizer.state[parameter][key], expected[index][key], rtol=1e-3, atol=1e-6)


def test_optimizer_state_of_another_run_is_refused(tmp_path):
    model, optimizer = make_optimizer(lr=1e-2)
    with pytest.raises(ValueError, match=r"holds no state of an optimizer: it has no settings\.json"):
        load_optimizer_state(tmp_path, model, optimizer)
    step(model, optimizer, 1)
    save_optimizer_state(tmp_path, model, optimizer)
    with pytest.raises(ValueError, match=r"belongs to another model or optimizer: .* differ"):
        load_optimizer_state(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    other, wider = make_optimizer(hidden_size=32, lr=1e-2)
    with pytest.raises(ValueError, match="belongs to another model or optimizer"):
        load_optimizer_state(tmp_path, other, wider)
