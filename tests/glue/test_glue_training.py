# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments of fine-tuning, and metrics and predictions of its Trainer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AlbertConfig, AlbertModel, BertConfig, BertForSequenceClassification, EvalPrediction

from modeling_gau import GAUConfig, GAUForSequenceClassification
from modeling_gau.glue.tasks import GLUE_TASKS, GlueTask
from modeling_gau.glue.trainer import GlueTrainer, GlueTrainingArguments, layer_depths


def training_arguments(tmp_path, **arguments) -> GlueTrainingArguments:
    return GlueTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **arguments)


def test_a_run_trains_and_evaluates_unless_told_otherwise(tmp_path):
    def actions(**arguments):
        arguments = training_arguments(tmp_path, **arguments)
        return arguments.do_train, arguments.do_eval, arguments.do_predict

    assert actions() == (True, True, False)
    assert actions(eval_strategy="epoch") == (True, True, False)
    assert actions(do_predict=True) == (False, False, True)


def test_best_model_is_that_of_the_key_metric(tmp_path):
    arguments = training_arguments(tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    arguments.resolve_best_metric(GLUE_TASKS["cola"])
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == ("matthews_correlation", True)


def test_best_metric_asked_for_is_kept(tmp_path):
    arguments = training_arguments(tmp_path, metric_for_best_model="eval_loss", save_strategy="best")
    arguments.resolve_best_metric(GLUE_TASKS["cola"])
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == ("eval_loss", False)


def test_without_a_best_model_there_is_no_best_metric(tmp_path):
    arguments = training_arguments(tmp_path)
    arguments.resolve_best_metric(GLUE_TASKS["cola"])
    assert arguments.metric_for_best_model is None


def test_unknown_best_metric(tmp_path):
    arguments = training_arguments(tmp_path, metric_for_best_model="accuracy")
    with pytest.raises(ValueError, match=r"--metric_for_best_model accuracy.*loss, matthews_correlation"):
        arguments.resolve_best_metric(GLUE_TASKS["cola"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layerwise_lr_decay": 0.0}, "--layerwise_lr_decay must be above 0 and at most 1, got 0.0"),
        ({"layerwise_lr_decay": 1.1}, "--layerwise_lr_decay must be above 0 and at most 1, got 1.1"),
        ({"early_stopping_patience": 0}, "--early_stopping_patience must be at least 1, got 0"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        training_arguments(tmp_path, **arguments)


def test_early_stopping_brings_what_it_needs(tmp_path):
    args = training_arguments(tmp_path, early_stopping_patience=3, early_stopping_threshold=0.01)
    assert (args.eval_strategy, args.save_strategy, args.load_best_model_at_end) == ("epoch", "epoch", True)
    (callback,) = args.callbacks()
    assert (callback.early_stopping_patience, callback.early_stopping_threshold) == (3, 0.01)
    steps = training_arguments(
        tmp_path, early_stopping_patience=3, eval_strategy="steps", eval_steps=10, save_steps=10
    )
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
    args = training_arguments(tmp_path, layerwise_lr_decay=0.5, learning_rate=0.8, weight_decay=0.1)
    task = GLUE_TASKS["sst2"]
    optimizer = GlueTrainer(task, task.label_names, model=model, args=args).create_optimizer()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert len(rates) == len(names)
    for name, depth in layer_depths(model).items():
        assert rates[id(names[name])] == pytest.approx(0.8 * 0.5**depth)
    plain = GlueTrainer(task, task.label_names, model=model, args=training_arguments(tmp_path, weight_decay=0.1))
    for group in plain.create_optimizer().param_groups:
        assert all(decays[id(parameter)] == group["weight_decay"] for parameter in group["params"])


# The Trainer


@pytest.fixture(scope="module")
def model():
    return GAUForSequenceClassification(
        GAUConfig(vocab_size=10, hidden_size=8, intermediate_size=16, attention_key_size=4, num_hidden_layers=2)
    )


def trainer(tmp_path, model, task: GlueTask, label_names) -> GlueTrainer:
    return GlueTrainer(task, label_names, model=model, args=training_arguments(tmp_path))


def test_f1_is_that_of_the_tasks_class_1_whatever_the_models_order(tmp_path, model):
    task = GLUE_TASKS["mrpc"]
    evaluation = SimpleNamespace(predictions=np.array([0, 0, 1, 1]), label_ids=np.array([0, 0, 0, 1]))
    flipped = EvalPrediction(1 - evaluation.predictions, 1 - evaluation.label_ids)
    results = trainer(tmp_path, model, task, task.label_names).compute_task_metrics(evaluation)
    assert results == pytest.approx({"accuracy": 0.75, "f1": 2 / 3, "combined_score": (0.75 + 2 / 3) / 2})
    assert trainer(tmp_path, model, task, task.label_names[::-1]).compute_task_metrics(flipped) == results


def test_scores_are_compared_as_they_are(tmp_path, model):
    run = trainer(tmp_path, model, GLUE_TASKS["stsb"], ("similarity",))
    evaluation = EvalPrediction(np.array([1.0, 2.0, 4.0]), np.array([0.5, 3.0, 2.0]))
    results = run.compute_task_metrics(evaluation)
    assert set(results) == {"pearson", "spearmanr", "combined_score"}
    assert results["spearmanr"] == pytest.approx(0.5)
    assert results["combined_score"] == pytest.approx((results["pearson"] + results["spearmanr"]) / 2)
    assert run.compute_task_metrics(evaluation) == results  # a second evaluation does not add to the first


def test_logits_become_predictions(tmp_path, model):
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0]])
    classes = trainer(tmp_path, model, GLUE_TASKS["sst2"], ("negative", "positive"))
    assert classes.predictions_from_logits(logits, None).tolist() == [1, 0]
    assert classes.predictions_from_logits((logits, None), None).tolist() == [1, 0]
    scores = trainer(tmp_path, model, GLUE_TASKS["stsb"], ("similarity",))
    assert scores.predictions_from_logits(torch.tensor([[2.5]]), None).tolist() == [2.5]


def test_a_push_keeps_the_card_that_is_there(tmp_path, model):
    run = trainer(tmp_path, model, GLUE_TASKS["sst2"], ("negative", "positive"))
    card = tmp_path / "out" / "README.md"
    card.write_text("ours", encoding="utf-8")
    run.create_model_card()
    assert card.read_text(encoding="utf-8") == "ours"
