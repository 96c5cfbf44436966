# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What the dataclasses of arguments refuse."""

import math

import pytest
from transformers import PerceiverConfig

from modeling_gau import GAUConfig, GAUError
from modeling_gau.glue.arguments import GlueArguments
from modeling_gau.glue.study import StudyArguments
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs import arguments as run_arguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.text.arguments import DataArguments


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_file": ["a"], "dataset_name": "b"}, "--train_file and --dataset_name"),
        ({"validation_file": ["a"]}, "--validation_file needs"),
        ({"dataset_config_name": "a"}, "needs --dataset_name"),
        ({"mlm_probability": 0.0}, "--mlm_probability must lie between 0 and 1"),
        ({"eval_mlm_probability": 1.0}, "--eval_mlm_probability must lie between 0 and 1"),
        ({"max_seq_length": 2}, "--max_seq_length must be at least 3"),
        ({"max_seq_length": 2**31}, "--max_seq_length must be at least 3"),
        ({"eval_lengths": [10**30]}, "and below 2**31"),
        ({"eval_lengths": [64, 2]}, "--eval_lengths must be at least 3"),
        ({"eval_lengths": []}, "--eval_lengths must be at least 3"),
        ({"max_train_samples": 0}, "--max_train_samples must be at least 1"),
        ({"vocab_size": -1}, "--vocab_size must be at least 1"),
        ({"vocab_size": 10**23}, "--vocab_size must be at least 1 and below 2**63"),
        ({"random_replace_prob": math.nan}, "are shares that add up to at most 1"),
        ({"validation_split_percentage": 100.0}, "--validation_split_percentage must lie"),
    ],
)
def test_data_arguments_refuse(values, message):
    with pytest.raises(ValueError) as error:
        DataArguments(**values)
    assert message in str(error.value)


def test_data_arguments_follow_each_other():
    data = DataArguments(max_seq_length=128, mlm_probability=0.3)
    assert (data.eval_lengths, data.eval_mlm_probability) == (None, 0.3)  # the lengths follow from text and model


@pytest.mark.parametrize("number", [0, -1, 2**31, 10**30])
def test_model_arguments_refuse_other_numbers_for_n(number):
    with pytest.raises(ValueError, match="--fixed_n must be a positive number of tokens, at most 2147483647, got"):
        ModelArguments(fixed_n=number)


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize(
    "name, value",
    [("max_steps", 0), ("max_steps", -2), *(("num_train_epochs", epochs) for epochs in (0, -1, math.inf, math.nan))],
)
def test_training_that_makes_no_step_is_refused(kind, name, value):
    with pytest.raises(ValueError, match=rf"--{name} must be .*, got {value}[.:]"):
        kind(use_cpu=True, **{name: value})


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
def test_float16_is_refused_on_a_cpu(kind, monkeypatch):
    with pytest.raises(ValueError, match=r"--fp16 .* has no effect on a CPU: .* --bf16.* float32"):
        kind(use_cpu=True, fp16=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")  # what a launcher does
    with pytest.raises(ValueError, match="has no effect on a CPU"):
        kind(use_cpu=True)


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "steps"},
            "save and eval strategy to match",
        ),
        ({"accelerator_config": "missing.json"}, "No such file or directory: 'missing.json'"),
        ({"accelerator_config": {"foo": 1}}, "unexpected keyword argument 'foo'"),
        ({"fsdp": "foo"}, "Unknown `fsdp` option: foo"),
        ({"logging_steps": 1.5}, "must be an integer if bigger than 1"),
    ],
)
def test_what_transformers_refuses_is_an_error_of_one_line(kind, values, message):
    with pytest.raises(ValueError, match=f"transformers refuses these arguments: [^\n]*{message}[^\n]*$"):
        kind(use_cpu=True, **values)


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize(
    "values, message",
    [
        ({"lr_scheduler_kwargs": "foo"}, "--lr_scheduler_kwargs must be a JSON object, .*, got 'foo'"),
        ({"lr_scheduler_kwargs": ""}, "--lr_scheduler_kwargs must be a JSON object"),
        ({"lr_scheduler_kwargs": [1]}, "--lr_scheduler_kwargs must be a JSON object"),
        ({"lr_scheduler_kwargs": {"a": 1}}, "--lr_scheduler_type linear .* unexpected keyword argument 'a'"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "--lr_scheduler_type cosine_with_min_lr with .* min_lr"),
        ({"optim_args": "foo"}, "--optim_args is a list of name=value, got 'foo'"),
        ({"optim": "sgd", "optim_args": "momentum=x"}, "--optim sgd: could not convert"),
        ({"optim": "grokadamw"}, "--optim grokadamw: .*install"),
        ({"optim": "lomo", "lr_scheduler_kwargs": "foo"}, "--lr_scheduler_kwargs must be"),
    ],
)
def test_optimizers_and_schedules_are_checked_before_anything_is_read(kind, values, message):
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
        kind(use_cpu=True, do_train=True, **values)


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
def test_loggers_that_are_not_installed_are_refused(kind, monkeypatch):
    monkeypatch.setattr(run_arguments, "get_available_reporting_integrations", lambda: ["tensorboard"])
    for name in ("foo", "", "wandb"):
        with pytest.raises(ValueError, match=f"--report_to {name}: .* Installed: tensorboard. --report_to none"):
            kind(use_cpu=True, report_to=name)
    assert kind(use_cpu=True, report_to="tensorboard").report_to == ["tensorboard"]
    assert kind(use_cpu=True, report_to="none").report_to == []


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
def test_compilers_and_their_modes_are_known(kind, monkeypatch):
    for name in ("ACCELERATE_DYNAMO_BACKEND", "ACCELERATE_DYNAMO_MODE"):
        monkeypatch.setenv(name, "")  # TrainingArguments sets them
    with pytest.raises(ValueError, match=r"--torch_compile_backend foo: .* Allowed: .*inductor"):
        kind(use_cpu=True, torch_compile_backend="foo")
    with pytest.raises(ValueError, match=r"--torch_compile_mode foo: .* Allowed: default, .*max-autotune"):
        kind(use_cpu=True, torch_compile_mode="foo")
    assert kind(use_cpu=True, torch_compile_mode="reduce-overhead").torch_compile_backend == "inductor"
    assert kind(use_cpu=True, torch_compile_backend="aot_eager").torch_compile


def test_persistent_workers_are_workers():
    with pytest.raises(ValueError, match="--dataloader_persistent_workers needs --dataloader_num_workers"):
        GlueTrainingArguments(use_cpu=True, dataloader_persistent_workers=True)
    for kind, workers in ((GlueTrainingArguments, 1), (PretrainingArguments, 0)):
        assert kind(use_cpu=True, dataloader_persistent_workers=True, dataloader_num_workers=workers)


def test_the_best_checkpoint_needs_a_measure():
    with pytest.raises(ValueError, match="--save_strategy best needs --metric_for_best_model"):
        PretrainingArguments(use_cpu=True, save_strategy="best")
    PretrainingArguments(use_cpu=True, save_strategy="best", eval_strategy="epoch", metric_for_best_model="loss")
    GlueTrainingArguments(use_cpu=True, save_strategy="best", eval_strategy="epoch")


def test_optimizers_of_a_run_that_does_not_train_do_not_count():
    assert GlueTrainingArguments(use_cpu=True, do_eval=True, optim_args="foo").optim_args == "foo"


@pytest.mark.parametrize(
    "values",
    [
        {"lr_scheduler_type": "warmup_stable_decay", "decay_steps": 4, "max_steps": 8},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"min_lr_ratio": 0.1}},
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": '{"power": 2}'},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"optim": "adafactor", "optim_args": ""},
        {"learning_rate": 0},
    ],
    ids=str,
)
def test_optimizers_and_schedules_that_can_be_made_are_taken(values):
    PretrainingArguments(use_cpu=True, **values)


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize(
    "name, value",
    [
        ("prediction_loss_only", True),
        ("batch_eval_metrics", True),
        ("eval_do_concat_batches", False),
        ("label_names", ["score"]),
    ],
)
def test_settings_that_would_drop_the_metrics_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=rf"--{name} is not supported here: .* Leave it out\."):
        kind(use_cpu=True, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch", **{name: value})


NUMBERS = {
    "at least 1|from 1 to": ("per_device_train_batch_size", "per_device_eval_batch_size"),
    "from 1 to 2147483647": ("gradient_accumulation_steps", "eval_accumulation_steps"),
    "at least 0": ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"),
    "above 0": ("adam_epsilon", "logging_steps", "save_steps"),
    "from 0 to": ("dataloader_num_workers", "adam_beta1", "adam_beta2", "label_smoothing_factor", "seed", "data_seed"),
}


@pytest.mark.parametrize("kind", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize("name, allowed", [(name, allowed) for allowed, names in NUMBERS.items() for name in names])
def test_numbers_out_of_range_are_refused_when_they_are_given(kind, name, allowed):
    for value in (-1, math.nan, 10**40 if "from" in allowed else math.inf):
        with pytest.raises(ValueError, match=rf"--{name} must be .*({allowed}).*, got {value}\."):
            kind(use_cpu=True, **{name: value})


def test_a_word_for_a_number_is_refused():
    with pytest.raises(GAUError, match="--weight_decay must be a finite number of at least 0, got '1e-2'"):
        PretrainingArguments(use_cpu=True, weight_decay="1e-2")


def test_seeds_of_a_study_are_seeds():
    with pytest.raises(ValueError, match="--seeds must be from 0 to 4294967295, got -1"):
        StudyArguments(seeds=[0, -1])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"text_column": "a", "label_column": ["a"]}, "'a' is given as text and as label"),
        ({"text_column": "a", "text_pair_column": "b", "label_column": ["c", "b"]}, "'b' is given as text and"),
        ({"text_column": "label"}, "'label' is given as text and as label"),
        ({"task_name": "sst2", "label_column": ["sentence"]}, "'sentence' is given as text and as label"),
        ({"text_column": "a", "text_pair_column": "a"}, "are both 'a'"),
    ],
)
def test_a_column_has_one_use(options, message):
    with pytest.raises(ValueError, match=message):
        GlueArguments(train_file="rows.csv", **options)


def test_steps_stand_where_epochs_do_not_count():
    assert PretrainingArguments(use_cpu=True, max_steps=3, num_train_epochs=0).max_steps == 3
    assert GlueTrainingArguments(use_cpu=True, do_eval=True, num_train_epochs=0).do_train is False


def test_steps_of_what_is_switched_off_may_be_anything(tmp_path):
    for values in ({"save_strategy": "no", "save_steps": 0}, {"logging_strategy": "no", "logging_steps": 0}):
        PretrainingArguments(output_dir=str(tmp_path), **values)
    assert PretrainingArguments(output_dir=str(tmp_path), save_total_limit=0).save_total_limit == 0


@pytest.mark.parametrize(
    ("kind", "width", "rate"),
    [
        (PretrainingArguments, 192, 2.8e-3),
        (PretrainingArguments, 768, 7e-4),
        (PretrainingArguments, 64, 4.2e-3),  # that of 128
        (GlueTrainingArguments, 192, 3e-4),
        (GlueTrainingArguments, 768, 5e-5),
    ],
)
def test_the_learning_rate_follows_from_the_width(tmp_path, capsys, kind, width, rate):
    args = kind(output_dir=str(tmp_path), use_cpu=True)
    assert 0 < args.get_warmup_steps(100) <= 6
    args.fill_learning_rate(GAUConfig(hidden_size=width))
    assert args.learning_rate == pytest.approx(rate)
    assert f"Learning rate {rate:g}, chosen for a width of {width}" in capsys.readouterr().out
    args = kind(output_dir=str(tmp_path), use_cpu=True)
    args.fill_learning_rate(GAUConfig(hidden_size=width), share=0.2)
    assert args.learning_rate == pytest.approx(rate / 5, rel=0.05)
    assert f"a width of {width} and trained weights" in capsys.readouterr().out
    for given in (0.0, 1e-2):
        args = kind(output_dir=str(tmp_path), use_cpu=True, learning_rate=given)
        args.fill_learning_rate(GAUConfig(hidden_size=width))
        assert args.learning_rate == given and capsys.readouterr().out == ""


def test_rate_and_weight_decay_of_muon(tmp_path, capsys):
    args = PretrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert args.weight_decay == 0.01
    args = PretrainingArguments(output_dir=str(tmp_path), use_cpu=True, optim="muon")
    args.fill_learning_rate(GAUConfig(hidden_size=192))
    assert args.learning_rate == pytest.approx(5.6e-3) and args.weight_decay == 0.1
    assert "Learning rate 0.0056, chosen for a width of 192 and Muon" in capsys.readouterr().out
    args = PretrainingArguments(output_dir=str(tmp_path), use_cpu=True, optim="muon", weight_decay=0.0)
    assert args.weight_decay == 0.0
    args = GlueTrainingArguments(output_dir=str(tmp_path), use_cpu=True, optim="muon")  # not measured there
    args.fill_learning_rate(GAUConfig(hidden_size=192))
    assert args.learning_rate == pytest.approx(3e-4) and "Muon" not in capsys.readouterr().out


def test_the_learning_rate_is_asked_for_where_it_cannot_be_chosen(tmp_path, monkeypatch):
    args = PretrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(GAUError, match="--learning_rate is missing: it is chosen by hidden_size, which a perceiver"):
        args.fill_learning_rate(PerceiverConfig())
    with pytest.raises(GAUError, match="DeepSpeed needs --learning_rate"):
        PretrainingArguments(output_dir=str(tmp_path), deepspeed="zero.json")
    with pytest.raises(GAUError, match="--optim muon needs whole matrices"):
        PretrainingArguments(output_dir=str(tmp_path), deepspeed="zero.json", optim="muon", learning_rate=1e-3)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(GAUError, match="DeepSpeed needs --learning_rate"):
        PretrainingArguments(output_dir=str(tmp_path))
