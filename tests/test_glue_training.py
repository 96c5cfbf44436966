# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments of fine-tuning, and metrics and predictions of its Trainer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from modeling_gau import GAUConfig, GAUForSequenceClassification
from modeling_gau.glue_tasks import GLUE_TASKS, GlueTask
from modeling_gau.glue_training import GlueTrainer, GlueTrainingArguments


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


# The Trainer


@pytest.fixture(scope="module")
def model():
    return GAUForSequenceClassification(
        GAUConfig(vocab_size=10, hidden_size=8, intermediate_size=16, attention_key_size=4, num_hidden_layers=1)
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
