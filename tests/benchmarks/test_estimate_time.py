# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_gau import GAUConfig, GAUForMaskedLM


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import estimate_time

        yield estimate_time


@pytest.mark.parametrize("length", [16, 96])
def test_operations_are_those_that_pytorch_counts(script, length):
    config = GAUConfig(
        vocab_size=101, hidden_size=24, intermediate_size=40, attention_key_size=16, num_hidden_layers=3,
        sparse_prediction=True,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = GAUForMaskedLM(config)
    input_ids = torch.randint(5, 101, (2, length))
    labels = torch.full_like(input_ids, -100)
    labels[:, : length // 4] = 7
    with FlopCounterMode(display=False) as counter:
        model(input_ids, labels=labels).loss.backward()
    assert counter.get_total_flops() == script.training_flops(config, length, mlm_probability=0.25) * 2 * length


def test_times_and_bytes(script):
    assert script.run_hours(3600e6, gpus=10, tokens_per_second=1e5) == 1
    # A ring of two sends every gradient once in each of its two rounds; of many, nearly once a round from each.
    assert script.step_communication(1000, 2, "ddp") == 4000
    assert script.step_communication(1000, 1000, "ddp") == pytest.approx(8000, rel=1e-2)
    assert script.step_communication(1000, 1, "fsdp2") == 0
    layers = 24 * (3 * 768 * 1536 + 768 * 128 + 2 * 128)
    assert script.count_parameters(GAUConfig()) == layers + (30522 + 2) * 768


def test_measured_speed_takes_the_place_of_the_assumption(script, monkeypatch, capsys):
    options = ["estimate_time.py", "--lengths", "512", "--gpus", "8", "--tokens", "1e9"]
    monkeypatch.setattr("sys.argv", options)
    script.main()
    assert "estimated, utilisation assumed" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*options, "--tokens_per_second", "100000"])
    script.main()
    given = capsys.readouterr().out
    assert "from tokens per second as given" in given
    assert " 0.3\n" in given  # 1e9 / 8e5 / 3600 hours
