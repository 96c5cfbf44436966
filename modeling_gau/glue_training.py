# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tuning with `transformers.Trainer`: arguments, and what the metrics of a task ask of the Trainer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput

from .glue_metric import GlueMetric
from .glue_tasks import GlueTask
from .training import take_cpu_for_bfloat16


@dataclass
class GlueTrainingArguments(TrainingArguments):
    """[`TrainingArguments`] in which the best model is the one with the best key metric of the task.

    With none of `do_train`, `do_eval` and `do_predict`, a run trains and evaluates.
    """

    KEY_METRIC = "key_metric"

    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Start anew in an `output_dir` that holds an earlier run; its `checkpoint-*` folders are deleted."
        },
    )

    def __post_init__(self):
        # Before `super()`, which switches `do_eval` on where evaluations during training are asked for.
        if not (self.do_train or self.do_eval or self.do_predict):
            self.do_train = self.do_eval = True
        # The Trainer's own default is the loss. It is replaced here and resolved when the task is known.
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == "best"):
            self.metric_for_best_model = self.KEY_METRIC
        take_cpu_for_bfloat16(self)
        super().__post_init__()

    def resolve_best_metric(self, task: GlueTask) -> None:
        """Replaces `key_metric` by the task's; raises ValueError for a metric that evaluations will not report."""
        if self.metric_for_best_model is None:
            return
        if self.metric_for_best_model == self.KEY_METRIC:
            self.metric_for_best_model = task.key_metric
        allowed = ("loss", *task.metric_names)
        if self.metric_for_best_model.removeprefix("eval_") not in allowed:
            raise ValueError(
                f"--metric_for_best_model {self.metric_for_best_model}: evaluations of {task.name} report "
                f"{', '.join(allowed)}. Give one of them, or leave it out for {task.key_metric}."
            )


class GlueTrainer(Trainer):
    """[`Trainer`] that reports the metrics of a task and, where there are two, their mean as `combined_score`.

    Args:
        task: of the data.
        label_names: classes in the order of the model's outputs. F1 is that of class 1 in the task's order.
        **arguments: the Trainer's.
    """

    def __init__(self, task: GlueTask, label_names: Sequence[str], **arguments):
        super().__init__(
            compute_metrics=self.compute_task_metrics,
            preprocess_logits_for_metrics=self.predictions_from_logits,
            **arguments,
        )
        # A forward method with `**kwargs` makes the Trainer take the loss for a sum over the rows of the whole step,
        # already divided by their number. A regression's is the mean of its batch, and so is every loss of BERT and
        # its like: gradients would grow with the steps of gradient accumulation and with the number of processes.
        self.model_accepts_loss_kwargs = False
        self.task = task
        self.task_ids = np.array([task.label_names.index(name) for name in label_names])
        self.metric = GlueMetric(task.metric, keep_in_memory=True)

    def predictions_from_logits(self, logits: torch.Tensor | tuple, labels: torch.Tensor | None) -> torch.Tensor:
        """(batch, labels) logits -> (batch,) scores or class ids, so that no logits are kept over an evaluation."""
        if isinstance(logits, tuple):  # models that return hidden states or attentions as well
            logits = logits[0]
        return logits.squeeze(-1) if self.task.is_regression else logits.argmax(-1)

    def compute_task_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        predictions, references = evaluation.predictions, evaluation.label_ids
        if not self.task.is_regression:
            predictions, references = self.task_ids[predictions], self.task_ids[references]
        results = self.metric.compute(predictions=predictions, references=references)
        return results if len(results) == 1 else {**results, "combined_score": fmean(results.values())}

    def predict(self, *args, **kwargs) -> PredictionOutput:
        # The Trainer groups the rows of evaluations by length too, and would return predictions in that order.
        strategy = self.args.train_sampling_strategy
        self.args.train_sampling_strategy = "random"
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.args.train_sampling_strategy = strategy

    def create_model_card(self, *args, **kwargs):
        # Called before every push: the card that is there says more than the Trainer's draft.
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)
