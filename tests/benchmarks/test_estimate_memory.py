# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What `benchmarks/estimate_memory.py` finds with fake tensors is what happens with real ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modeling_gau import GAUConfig, GAUForMaskedLM


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import estimate_memory

        yield estimate_memory


def make_config(backend: str = "gau_auto", layers: int = 3, **kwargs) -> GAUConfig:
    config = GAUConfig(
        vocab_size=301,
        hidden_size=24,
        intermediate_size=40,
        attention_key_size=16,
        num_hidden_layers=layers,
        **kwargs,
    )
    config._attn_implementation = backend
    return config


class PeakOfRealTensors:
    """Peak of the bytes that PyTorch's allocator has handed out, from the profiler: no part of the script."""

    def __enter__(self):
        activities = [torch.profiler.ProfilerActivity.CPU]
        self.profiler = torch.profiler.profile(activities=activities, profile_memory=True)
        self.profiler.__enter__()
        return self

    def __exit__(self, *exception):
        self.profiler.__exit__(*exception)
        events = [event for event in self.profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
        live = self.bytes = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            live += event.nbytes()
            self.bytes = max(self.bytes, live)


@pytest.mark.parametrize(
    "backend, precision, mask",
    [
        ("eager", "float32", "none"),
        ("eager", "bf16", "documents"),
        ("gau_blocked", "float32", "documents"),
        ("gau_blocked", "bf16", "none"),
        ("sdpa", "float32", "none"),
        ("sdpa", "bf16", "documents"),
    ],
)
def test_activations_are_those_of_a_real_step(script, backend, precision, mask):
    step = script.Step(length=48, rows=3, precision=precision, mask=mask, device="cpu")
    expected = script.replay(make_config(backend), step)
    found = script.run_step(script.make_model(make_config(backend), step), step, None)
    assert found.activations == pytest.approx(expected.activations, abs=256)  # random seeds of dropout are some bytes
    assert expected.activations > 3 * 48 * 24 * 4


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_peak_is_that_of_the_allocator(script, precision, checkpointing):
    step = script.Step(length=128, rows=4, precision=precision, checkpointing=checkpointing, device="cpu")
    expected = script.replay(make_config("eager"), step)
    model = script.make_model(make_config("eager"), step)
    with PeakOfRealTensors() as peak:
        script.run_step(model, step, None)
    assert expected.peak == pytest.approx(peak.bytes, rel=0.02)
    assert expected.peak > expected.activations


@pytest.mark.parametrize("window", [None, 200])
def test_scratch_memory_of_blocks_is_in_the_peak(script, monkeypatch, window):
    for name, value in {"_BLOCK_ELEMENTS": {"cpu": 2**16}, "_MIN_BLOCK_ROWS": 16}.items():
        monkeypatch.setattr(script.attention_gau, name, value)
    local = {} if window is None else {"sliding_window": window, "layer_types": ["sliding_attention"]}
    # Narrow, so that blocks of scores are most of what there is.
    config = make_config("gau_blocked", layers=1, attention_probs_dropout_prob=0.1, **local)
    step = script.Step(length=1024, rows=1, precision="float32", device="cpu")
    expected = script.replay(config, step)
    model = script.make_model(config, step)
    with PeakOfRealTensors() as peak:
        script.run_step(model, step, None)
    assert expected.peak == pytest.approx(peak.bytes, rel=0.02 if window is None else 0.04)
    monkeypatch.setattr(script, "attention_scratch", lambda *args: 0)
    assert script.replay(config, step).peak < 0.8 * peak.bytes


def test_rules_of_cuda(script):
    config = make_config("eager", attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.0)
    step = script.Step(length=64, rows=2, precision="bf16", device="cpu")
    on_cpu = script.replay(config, step).activations
    on_cuda = script.replay(config, replace(step, device="cuda")).activations
    pairs = 3 * 2 * 64 * 64  # layers, rows, queries, keys
    # Weights in float32 instead of bfloat16, and a dropout mask of one byte instead of bfloat16 factors.
    assert on_cuda - on_cpu == pytest.approx(pairs * (4 - 2) + pairs * (1 - 2), rel=0.1)
    # A fused kernel keeps no pairs at all.
    config = make_config("sdpa", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    fused, longer = (
        script.replay(config, replace(step, length=length, rows=rows, device="cuda")).activations
        for length, rows in ((64, 2), (128, 1))
    )
    assert longer == pytest.approx(fused, rel=0.02)  # but angles, which all rows share


def test_checkpointing_keeps_one_input_a_layer(script):
    config, step = make_config("eager"), script.Step(length=64, rows=2, precision="float32")
    grows = []
    for checkpointing in (False, True):
        found = [
            script.replay(make_config("eager", layers), replace(step, checkpointing=checkpointing)).activations
            for layers in (2, 5)
        ]
        grows.append((found[1] - found[0]) / 3)
    hidden_states = 2 * 64 * config.hidden_size * 4
    assert grows[1] == pytest.approx(hidden_states, rel=0.1)
    assert grows[0] > 10 * grows[1]


def test_shares_of_fsdp2(script):
    config, step = make_config(), script.Step(length=32, rows=2, sharded=True)
    whole = 4 * sum(parameter.numel() for parameter in GAUForMaskedLM(config).parameters())
    one = script.estimate(config, step, "fsdp2", 1)
    for gpus in (2, 64):
        found = script.estimate(config, step, "fsdp2", gpus)
        assert found.weights == pytest.approx(whole / gpus, abs=1)
        assert found.gradients == pytest.approx(whole / gpus, abs=1)
        assert found.optimizer == pytest.approx(2 * whole / gpus, abs=2)
        # What is not split does not depend on the number of GPUs.
        assert found.peak - 4 * found.weights == one.peak - 4 * whole
        assert (found.activations, found.communication) == (one.activations, one.communication)


def test_ddp_adds_its_buckets_to_one_device(script):
    config, step = make_config(), script.Step(length=32, rows=2)
    whole = 4 * sum(parameter.numel() for parameter in GAUForMaskedLM(config).parameters())
    one, ddp = (script.estimate(config, step, strategy, 8) for strategy in ("none", "ddp"))
    assert (one.weights, one.gradients, one.optimizer, one.communication) == (whole, whole, 2 * whole, 0)
    assert replace(one, communication=whole, peak=one.peak + whole) == ddp
    assert one.peak > one.weights + one.optimizer + max(one.gradients, one.activations)


def test_command_line(script, tmp_path, monkeypatch, capsys):
    options = ["--presets", "gau-tiny", "--lengths", "64", "--rows", "2", "--checkpointing", "no", "yes", "--markdown"]
    monkeypatch.setattr("sys.argv", ["estimate_memory.py", *options, "--output", str(tmp_path / "memory.csv")])
    script.main()
    assert capsys.readouterr().out.count("| gau-tiny |") == 2 * 2  # strategies, checkpointing
    lines = (tmp_path / "memory.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2
    assert lines[0].startswith("preset,length,rows,strategy,gpus,")
