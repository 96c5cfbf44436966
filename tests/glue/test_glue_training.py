# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments of fine-tuning, and metrics and predictions of its Trainer."""

import numpy as np
import pytest
import torch
from transformers import AlbertConfig, AlbertModel, BertConfig, BertForSequenceClassification, EvalPrediction

from modeling_gau import GAUForSequenceClassification
from modeling_gau.glue.tasks import GLUE_TASKS, GlueTask
from modeling_gau.glue.trainer import GlueTrainer, GlueTrainingArguments, layer_depths


EVERY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch"}


def training_arguments(tmp_path, **arguments) -> GlueTrainingArguments:
    return GlueTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **arguments)


def test_a_run_trains_and_evaluates_unless_told_otherwise(tmp_path):
    def actions(**arguments):
        arguments = training_arguments(tmp_path, **arguments)
        return arguments.do_train, arguments.do_eval, arguments.do_predict

    assert actions() == (True, True, False)
    assert actions(eval_strategy="epoch") == (True, True, False)
    assert actions(do_predict=True) == (False, False, True)


@pytest.mark.parametrize(
    "arguments, metric, greater_is_better",
    [
        (EVERY_EPOCH | {"load_best_model_at_end": True}, "matthews_correlation", True),
        ({"metric_for_best_model": "eval_loss", "save_strategy": "best"}, "eval_loss", False),
        ({}, "matthews_correlation", True),
        ({"eval_strategy": "no"}, None, None),
    ],
)
def test_best_model_is_that_of_the_key_metric_or_of_the_one_asked_for(tmp_path, arguments, metric, greater_is_better):
    arguments = training_arguments(tmp_path, **arguments)
    arguments.resolve_best_metric(GLUE_TASKS["cola"])
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == (metric, greater_is_better)


def test_unknown_best_metric(tmp_path):
    arguments = training_arguments(tmp_path, metric_for_best_model="accuracy")
    with pytest.raises(ValueError, match=r"--metric_for_best_model accuracy.*loss, matthews_correlation"):
        arguments.resolve_best_metric(GLUE_TASKS["cola"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layerwise_lr_decay": 0.0}, "--layerwise_lr_decay must be above 0 and at most 1, got 0.0"),
        ({"layerwise_lr_decay": 1.1}, "--layerwise_lr_decay must be above 0 and at most 1, got 1.1"),
        (
            {"early_stopping_patience": 2, "load_best_model_at_end": False},
            "--early_stopping_patience 2 keeps the best model: leave out --load_best_model_at_end false",
        ),
        ({"early_stopping_patience": 0}, "--early_stopping_patience must be at least 1, got 0"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        training_arguments(tmp_path, **arguments)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({}, ("epoch", "epoch", True, 1)),
        ({"do_train": True, "do_eval": True, "save_total_limit": 3}, ("epoch", "epoch", True, 3)),
        ({"do_train": True}, ("no", "steps", False, None)),
        ({"do_eval": True}, ("no", "steps", False, None)),
        ({"load_best_model_at_end": False}, ("epoch", "epoch", False, 1)),
        ({"save_strategy": "no"}, ("epoch", "no", False, None)),
        ({"eval_strategy": "no"}, ("no", "steps", False, None)),
        ({"eval_strategy": "steps", "eval_steps": 10}, ("steps", "steps", False, None)),
    ],
)
def test_every_epoch_is_evaluated_and_the_best_is_kept_unless_told_otherwise(tmp_path, arguments, expected):
    args = training_arguments(tmp_path, **arguments)
    found = (args.eval_strategy, args.save_strategy, args.load_best_model_at_end, args.save_total_limit)
    assert found == expected


def test_early_stopping_brings_what_it_needs(tmp_path):
    args = training_arguments(tmp_path, early_stopping_patience=3, early_stopping_threshold=0.01)
    assert (args.eval_strategy, args.save_strategy, args.load_best_model_at_end) == ("epoch", "epoch", True)
    (callback,) = args.callbacks()
    assert (callback.early_stopping_patience, callback.early_stopping_threshold) == (3, 0.01)
    every_10_steps = {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 10}
    steps = training_arguments(tmp_path, early_stopping_patience=3, **every_10_steps)
    assert (steps.eval_strategy, steps.save_strategy) == ("steps", "steps")
    assert training_arguments(tmp_path).callbacks() == []


# Layer-wise learning rates


def test_depths_of_a_gau(model):
    depths = layer_depths(model)
    assert {depth for name, depth in depths.items() if name.startswith("classifier")} == {0}
    assert {depth for name, depth in depths.items() if ".layers.1." in name} == {1}
    assert {depth for name, depth in depths.items() if ".layers.0." in name} == {2}
    assert {depth for name, depth in depths.items() if "embeddings" in name} == {3}
    assert len(depths) == len(list(model.named_parameters()))


def test_depths_of_a_bert():
    config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8)
    depths = layer_depths(BertForSequenceClassification(config))
    assert depths["bert.embeddings.word_embeddings.weight"] == 4
    assert depths["bert.encoder.layer.0.attention.self.query.weight"] == 3
    assert depths["bert.encoder.layer.2.output.dense.bias"] == 1
    assert depths["bert.pooler.dense.weight"] == depths["classifier.weight"] == 0


def test_a_model_that_shares_its_layers_has_no_depths():
    config = AlbertConfig(vocab_size=10, embedding_size=8, hidden_size=8, num_attention_heads=2, intermediate_size=8)
    with pytest.raises(ValueError, match="the layers of AlbertModel are not numbered"):
        layer_depths(AlbertModel(config))


def test_every_parameter_learns_at_the_rate_of_its_depth(tmp_path, model):
    args = training_arguments(
        tmp_path, layerwise_lr_decay=0.5, learning_rate=0.8, weight_decay=0.1, eval_strategy="no"
    )
    task = GLUE_TASKS["sst2"]
    optimizer = GlueTrainer(task, task.label_names, model=model, args=args).create_optimizer()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert len(rates) == len(names)
    for name, depth in layer_depths(model).items():
        assert rates[id(names[name])] == pytest.approx(0.8 * 0.5**depth)
    args = training_arguments(tmp_path, weight_decay=0.1, eval_strategy="no")
    plain = GlueTrainer(task, task.label_names, model=model, args=args)
    for group in plain.create_optimizer().param_groups:
        assert all(decays[id(parameter)] == group["weight_decay"] for parameter in group["params"])


# The Trainer


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(GAUForSequenceClassification, num_hidden_layers=2)


def trainer(tmp_path, model, task: GlueTask, label_names) -> GlueTrainer:
    return GlueTrainer(task, label_names, model=model, args=training_arguments(tmp_path, eval_strategy="no"))


def test_metrics_know_the_models_order_and_nothing_of_earlier_evaluations(tmp_path, model):
    task = GLUE_TASKS["mrpc"]
    predictions, references = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    results = {"accuracy": 0.75, "f1": 2 / 3, "combined_score": (0.75 + 2 / 3) / 2}
    for names, flip in ((task.label_names, 0), (task.label_names[::-1], 1)):
        evaluate = trainer(tmp_path, model, task, names).compute_task_metrics
        for _ in range(2):
            found = evaluate(EvalPrediction((abs(flip - predictions),), abs(flip - references)))
            assert found == pytest.approx(results)


def test_logits_become_predictions(tmp_path, model):
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0]])
    classes = trainer(tmp_path, model, GLUE_TASKS["sst2"], ("negative", "positive"))
    for outputs in (logits, (logits, None)):
        assert classes.predictions_from_logits(outputs, None)[0].tolist() == [1, 0]


def test_a_push_keeps_the_card_that_is_there(tmp_path, model):
    run = trainer(tmp_path, model, GLUE_TASKS["sst2"], ("negative", "positive"))
    card = tmp_path / "out" / "README.md"
    card.write_text("ours", encoding="utf-8")
    run.create_model_card()
    assert card.read_text(encoding="utf-8") == "ours"
