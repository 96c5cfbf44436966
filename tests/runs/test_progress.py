# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a run shows of itself: its arithmetic, its time, its progress bar."""

import io
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, DebertaConfig, ModernBertConfig, RobertaConfig
from transformers.trainer_callback import TrainerControl, TrainerState

from modeling_gau import GAUConfig
from modeling_gau.runs import progress as progress_module
from modeling_gau.runs.progress import (
    ModelFlops,
    RunProgress,
    Speedometer,
    Stopwatch,
    describe_log,
    measure_matmul_peak,
)
from modeling_gau.text.batches import Totals


def gau(**changes) -> GAUConfig:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "attention_key_size": 32, "num_hidden_layers": 3}
    return GAUConfig(**{"vocab_size": 500, **sizes, **changes})


def gau_flops(config: GAUConfig, length: int, labelled: float) -> float:
    """A multiplication and an addition for each weight and token, and the two products of attention."""
    h, e, s = config.hidden_size, config.intermediate_size, config.attention_key_size
    layer = 2 * length * h * (2 * e + s) + 2 * length * e * h + 2 * length * length * (s + e)
    return config.num_hidden_layers * layer + labelled * 2 * length * h * config.vocab_size


@pytest.mark.parametrize("normalization", ["softmax_plus", "squared_relu"])
@pytest.mark.parametrize(("sparse", "labelled"), [(True, 0.15), (True, 0.4), (False, 1.0)])
def test_operations_of_a_gau(normalization, sparse, labelled):
    config = gau(sparse_prediction=sparse, attention_normalization=normalization)
    flops = ModelFlops(config, labelled if sparse else 0.15)
    for length in (16, 128, 1000):
        # Twice as many backward. The angles of the rotary positions are a product, too, of next to nothing.
        expected = 3 * gau_flops(config, length, labelled)
        assert expected <= flops.row(length) <= expected * 1.002


def test_counting_leaves_the_configuration_alone_and_needs_no_memory():
    # A model of 10 billion parameters.
    config = gau(hidden_size=8192, intermediate_size=16384, num_hidden_layers=25, sparse_prediction=True)
    before = config.to_dict()
    assert ModelFlops(config, 0.15).row(512) == pytest.approx(3 * gau_flops(config, 512, 0.15), rel=1e-3)
    assert config.to_dict() == before


def test_a_window_counts_what_it_shows():
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "attention_key_size": 8}
    full, same, windowed = (
        ModelFlops(GAUConfig(num_hidden_layers=4, **sizes, **changes), 1.0)
        for changes in ({}, {"layer_types": ["full_attention"] * 4}, {"sliding_window": 7})
    )
    for length in (5, 8, 9, 40):
        places = torch.arange(length)
        hidden = int(((places[:, None] - places).abs() > 7).sum())
        assert full.row(length) == same.row(length)
        # Two layers of four, scores and values.
        assert full.row(length) - windowed.row(length) == 3 * 2 * 2 * hidden * (8 + 32)


def bert_sizes(**changes) -> dict[str, int]:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {"vocab_size": 300, **sizes, **changes}


@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig])
def test_operations_of_other_encoders(config_class):
    length = 64
    layer = 2 * length * (4 * 64 * 64 + 2 * 64 * 128) + 4 * length * length * 64
    head = 2 * length * (64 * 64 + 64 * 300)  # dense, for all positions
    assert ModelFlops(config_class(**bert_sizes()), 0.15).row(length) == 3 * (2 * layer + head)


def test_sparse_prediction_of_other_encoders():
    rows = {
        sparse: ModelFlops(ModernBertConfig(**bert_sizes(pad_token_id=0), sparse_prediction=sparse), 0.25).row(64)
        for sparse in (False, True)
    }
    assert rows[False] - rows[True] == 3 * 0.75 * 2 * 64 * 64 * 300


def test_models_that_do_not_run_without_memory_have_no_count():
    assert ModelFlops(DebertaConfig(**bert_sizes()), 0.15).row(32) is None
    # Longer than the table of positions.
    flops = ModelFlops(BertConfig(**bert_sizes(max_position_embeddings=32)), 0.15)
    assert flops.row(64) is None and flops.row(32) > 0


def test_the_peak_is_that_of_the_fastest_product(monkeypatch):
    times = iter([0.0, 0.0, 10.0, 13.0, 20.0, 20.0, 22.0, 30.0, 30.0, 35.0, 99.0])
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: next(times))
    # Products that take 3, 2 and 5 seconds.
    assert measure_matmul_peak(torch.device("cpu"), torch.float32, seconds=40) == 2 * 1024**3 / 2


def test_a_product_is_measured_even_without_time():
    assert measure_matmul_peak(torch.device("cpu"), torch.float32, seconds=0) > 1e6


def test_pauses_do_not_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    watch = Stopwatch()
    now[0] += 3
    with watch.paused():
        now[0] += 50
    now[0] += 2
    with pytest.raises(KeyError), watch.paused():
        now[0] += 7
        raise KeyError
    assert watch.seconds() == 5
    watch.reset()
    now[0] += 4
    assert watch.seconds() == 4


class Pace:
    """A Speedometer on a CPU whose peak is one row a second, and its clock."""

    def __init__(self, monkeypatch, bf16: bool = False):
        self.now, self.said = 0.0, []
        monkeypatch.setattr(progress_module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(progress_module, "measure_matmul_peak", lambda *_: 1.0)
        monkeypatch.setattr(progress_module.logger, "warning", self.said.append)
        args = SimpleNamespace(device=torch.device("cpu"), mixed_precision="no", bf16=bf16, process_index=0)
        args.should_log = True
        self.loader = SimpleNamespace(totals=Totals())
        trainer = SimpleNamespace(args=args, loader=self.loader, model=SimpleNamespace(dtype=torch.float32))
        self.speed = Speedometer(trainer, SimpleNamespace(row=lambda length: 1.0))
        self.speed.begin()

    def steps(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds
            self.loader.totals += Totals(positions=8, positions_by_length={8: 8})
            self.speed.pace.count_step()


def test_steps_that_become_many_times_slower_are_told_once(monkeypatch):
    monkeypatch.setattr(progress_module, "slowdown_by_threads", lambda: 1.0)
    pace = Pace(monkeypatch, bf16=True)
    pace.steps(20, 3.0)
    pace.steps(10, 12.0)
    assert pace.said == []
    pace.steps(30, 24.0)
    (line,) = pace.said
    assert line.startswith("Steps take 8 times as long as before. ") and "OMP_NUM_THREADS=1; --bf16 false" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("seconds", "threads", "slowdown", "told"), [(11, 8, 9, 1), (9, 8, 9, 0), (11, 8, 1, 0), (11, 1, 9, 0)]
)
def test_steps_that_are_slow_from_the_start(monkeypatch, seconds, threads, slowdown, told):
    monkeypatch.setattr(progress_module, "slowdown_by_threads", lambda: slowdown)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    pace = Pace(monkeypatch)
    pace.steps(9, seconds)
    assert pace.said == []
    pace.steps(30, seconds)
    assert len(pace.said) == told
    assert all(line.startswith("Steps are slow: 8 threads take 9 times as long as one. ") for line in pace.said)
    assert all("--bf16" not in line for line in pace.said)


def test_a_moment_is_not_told(monkeypatch):
    monkeypatch.setattr(progress_module, "slowdown_by_threads", lambda: 9.0)
    pace = Pace(monkeypatch)
    pace.steps(10, 0.02)
    pace.steps(10, 0.2)
    assert pace.said == []
    pace.steps(10, 0.4)
    assert len(pace.said) == 1


def test_a_peak_is_measured_without_random_numbers_of_the_run(monkeypatch):
    args = SimpleNamespace(device=torch.device("cpu"), bf16=False, should_log=True)
    done, said, state = iter([0.0, 1e3]), [], torch.random.get_rng_state()
    monkeypatch.setattr(progress_module, "_WORTH_A_WORD", 0)
    monkeypatch.setattr(progress_module, "slowdown_by_threads", lambda: 3.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(progress_module.logger, "warning", said.append)
    pace = progress_module.Pace(args, Stopwatch(), lambda: next(done))
    for _ in range(10):
        pace.count_step()
    assert said[0].startswith("Steps are slow: 2 threads take 3 times")
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_threads_are_as_many_after_measuring_them(monkeypatch):
    used = [6]
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    state = torch.random.get_rng_state()
    assert 0.001 < progress_module.slowdown_by_threads() < 1000
    assert used == [6, 6, 1, 6] and torch.equal(state, torch.random.get_rng_state())


LOGS = {
    "loss": 3.22724,
    "masked_loss": 3.42724,
    "masked_accuracy": 0.4456,
    "grad_norm": 1.234,
    "learning_rate": 1e-4,
    "tokens_per_second": 123456.7,
    "mfu": 0.416,
    "padding": 0.0123,
    "row_length": 127.6,
}


def test_a_log_in_words():
    assert describe_log(LOGS) == (
        "loss 3.427, accuracy 44.6%, gradient 1.23, 123,457 tok/s, MFU 42%, padding 1.2%, length 128"
    )
    assert describe_log({"masked_loss": 1.0, "epoch": 2.0}) == "loss 1.000"


@pytest.fixture
def bar(monkeypatch):
    """A progress bar under way, and what it has shown."""
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    callback = RunProgress()
    state = TrainerState(max_steps=10, global_step=4)
    callback.on_train_begin(SimpleNamespace(), state, TrainerControl())
    monkeypatch.setattr(callback.training_bar, "write", lambda text, *_, **__: shown.write(f"{text}\n"))
    yield callback, state, shown
    callback.training_bar.close()


def test_the_bar_shows_the_last_log(bar):
    callback, state, shown = bar
    callback.on_log(None, state, None, logs=LOGS)
    assert describe_log(LOGS) in callback.training_bar.postfix
    callback.on_log(None, state, None, logs={"eval_loss": 2.0, "eval_accuracy": 0.5})
    assert "step 4: evaluation loss 2.0000, accuracy 50.00%\n" in shown.getvalue()
    assert describe_log(LOGS) in callback.training_bar.postfix
    assert "evaluation" not in callback.training_bar.postfix  # pretraining has its accuracy in the log
    callback.on_log(None, state, None, logs={"train_runtime": 1.0})


def test_the_bar_of_fine_tuning_shows_loss_and_metric(bar):
    callback, state, shown = bar
    evaluation = {"eval_loss": 0.5, "eval_accuracy": 0.846, "eval_f1": 0.8512, "eval_runtime": 2.0, "epoch": 1.0}
    callback.on_log(None, state, None, logs={"loss": 0.7479, "grad_norm": 2.928, "epoch": 0.5})
    assert callback.training_bar.postfix == "loss 0.748, gradient 2.93"
    callback.on_log(None, state, None, logs=evaluation)
    assert "step 4: evaluation loss 0.5000, accuracy 84.60%, f1 0.8512\n" in shown.getvalue()
    expected = "loss 0.748, gradient 2.93, evaluation loss 0.5000, accuracy 84.60%, f1 0.8512"
    assert callback.training_bar.postfix == expected


def test_there_is_one_bar_and_it_has_a_name(bar):
    callback, state, _ = bar
    assert callback.training_bar.desc == "Training"
    for batch in range(1, 8):
        callback.on_prediction_step(None, state, None, eval_dataloader=[None] * 8)
        assert callback.training_bar.desc == f"Evaluating {batch / 8:.0%}: "
    assert callback.prediction_bar is None
    callback.on_evaluate(None, state, None)
    assert callback.training_bar.desc == "Training: "


def test_an_evaluation_alone_has_a_bar_of_its_own(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    callback, state = RunProgress(), TrainerState()
    for _ in range(3):
        callback.on_prediction_step(None, state, None, eval_dataloader=[None] * 3)
    callback.on_evaluate(None, state, None)
    assert shown.getvalue().rpartition("\r")[2].startswith("Evaluating: 100%") and callback.prediction_bar is None


def test_other_processes_show_nothing(bar):
    callback, state, shown = bar
    before = shown.getvalue()
    state.is_world_process_zero = False
    callback.on_log(None, state, None, logs=LOGS)
    assert shown.getvalue() == before and not callback.training_bar.postfix
