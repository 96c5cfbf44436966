# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tuning with `transformers.Trainer`: arguments, layer-wise learning rates, and the metrics of a task."""

import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback
from transformers.trainer_utils import IntervalStrategy, PredictionOutput, SaveStrategy

from ..configuration_gau import GAUError
from ..runs.arguments import RunArguments
from ..runs.progress import Pace, Stopwatch
from ..runs.trainer import RunTrainer, replaced
from .tasks import PROBLEM_TYPES, GlueTask


@dataclass
class GlueTrainingArguments(RunArguments):
    """[`RunArguments`] in which the best model is the one with the best key metric of the task.

    Without `do_train`, `do_eval` and `do_predict`, a run trains and evaluates; each of several runs also predicts test
    rows, if there are any. A run that trains and evaluates does both in turns, an epoch at
    a time, and ends with the best model.
    """

    KEY_METRIC = "key_metric"
    RATE_AT_768: ClassVar[tuple[float, float]] = (5e-5, 1.3)

    do_train: bool = field(
        default=False,
        metadata={"help": "Train. Without --do_train, --do_eval and --do_predict, a run trains and evaluates."},
    )
    do_eval: bool = field(default=False, metadata={"help": "Evaluate on the validation rows."})
    do_predict: bool = field(default=False, metadata={"help": "Predict the test rows."})
    warmup_steps: float = field(
        default=0.06, metadata={"help": "Steps of linear warm-up or, below 1, a share of all steps."}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of matrices and embeddings."})
    eval_strategy: IntervalStrategy | None = field(
        default=None,
        metadata={"help": "When to evaluate during training; by default once an epoch, if the run evaluates at all."},
    )
    save_strategy: SaveStrategy | None = field(
        default=None, metadata={"help": "When to save checkpoints; by default at every evaluation."}
    )
    load_best_model_at_end: bool | None = field(
        default=None,
        metadata={
            "help": "Keep the model of the best evaluation instead of the last one; the default if the run evaluates "
            "and saves once an epoch."
        },
    )
    layerwise_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "Factor from the learning rate of a layer to that of the layer below: the classifier learns at "
            "learning_rate, the embeddings most slowly. 1 turns it off; 0.9 is common for 12 layers of BERT, 0.95 for "
            "the 24 of a GAU of that size."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop after this many evaluations in a row without a better metric, and keep the best model. "
            "Evaluates and saves once an epoch, unless eval_strategy says otherwise."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "Smallest improvement of the metric that counts."}
    )

    def __post_init__(self):
        # Before `super()`, which switches `do_eval` on where evaluations during training are asked for.
        self.stages_by_default = not (self.do_train or self.do_eval or self.do_predict)
        if self.stages_by_default:
            self.do_train = self.do_eval = True
        if self.do_train:
            self.check_steps()
        if not 0 < self.layerwise_lr_decay <= 1:
            raise GAUError(f"--layerwise_lr_decay must be above 0 and at most 1, got {self.layerwise_lr_decay}.")
        if not 0 <= self.early_stopping_threshold < math.inf:
            raise GAUError(
                "--early_stopping_threshold must be a finite number of at least 0, got "
                f"{self.early_stopping_threshold}."
            )
        if self.dataloader_persistent_workers and not self.dataloader_num_workers:
            raise GAUError("--dataloader_persistent_workers needs --dataloader_num_workers of at least 1.")
        self._fill_strategies()
        # The Trainer defaults to the loss. The task's metric is filled in when the task is known.
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == "best"):
            self.metric_for_best_model = self.KEY_METRIC
        super().__post_init__()
        if self.do_train:
            self.check_optimization()

    def _fill_strategies(self) -> None:
        """Chooses when to evaluate and to save, where the user did not, and whether the best model is kept."""
        stops_early = self.early_stopping_patience is not None
        if stops_early:
            if self.early_stopping_patience < 1:
                raise GAUError(f"--early_stopping_patience must be at least 1, got {self.early_stopping_patience}.")
            if self.load_best_model_at_end is False:
                raise GAUError(
                    f"--early_stopping_patience {self.early_stopping_patience} keeps the best model: leave out "
                    "--load_best_model_at_end false, or --early_stopping_patience."
                )
            # A resumed run must know how many evaluations brought nothing.
            self.restore_callback_states_from_checkpoint = True
            if self.eval_strategy == "no":
                self.eval_strategy = "epoch"
        if self.eval_strategy is None:
            evaluates = self.do_train and (self.do_eval or stops_early or bool(self.load_best_model_at_end))
            self.eval_strategy = "epoch" if evaluates else "no"
        if self.save_strategy is None:
            evaluates = self.eval_strategy != "no"
            self.save_strategy = self.eval_strategy if evaluates else "steps"
            if self.save_strategy == "epoch" and self.save_total_limit is None:
                self.save_total_limit = 1  # and the best
        if self.load_best_model_at_end is None:
            every_epoch = self.eval_strategy == "epoch" and self.save_strategy == "epoch"
            self.load_best_model_at_end = stops_early or every_epoch

    def callbacks(self) -> list[TrainerCallback]:
        """Returns the callbacks that these arguments ask for."""
        if self.early_stopping_patience is None:
            return []
        return [PatienceCallback(self.early_stopping_patience, self.early_stopping_threshold)]

    def check_problem(self, problem_type: str) -> None:
        """Raises ValueError for a loss that does not exist for a problem type."""
        if self.label_smoothing_factor and problem_type != PROBLEM_TYPES["single_label"]:
            raise GAUError(
                f"--label_smoothing_factor {self.label_smoothing_factor} needs one class a row, this is "
                f"{problem_type}. Leave it out, or give --problem_type single_label for numbers that are classes."
            )

    def check_rows(self, rows: int) -> None:
        """Raises ValueError if `dataloader_drop_last` drops all of the training rows."""
        needed = self.train_batch_size * self.world_size
        if self.dataloader_drop_last and rows < needed:
            raise GAUError(
                f"--dataloader_drop_last leaves nothing of the {rows} training rows: the batches of all processes "
                f"need {needed}. Lower --per_device_train_batch_size, or leave --dataloader_drop_last out."
            )

    def resolve_best_metric(self, task: GlueTask) -> None:
        """Replaces `key_metric` by the task's; raises ValueError for a metric that evaluations will not report."""
        if self.metric_for_best_model is None:
            return
        if self.metric_for_best_model == self.KEY_METRIC:
            self.metric_for_best_model = task.key_metric
        allowed = ("loss", *task.metric_names)
        if self.metric_for_best_model.removeprefix("eval_") not in allowed:
            raise GAUError(
                f"--metric_for_best_model {self.metric_for_best_model}: evaluations of {task.name} report "
                f"{', '.join(allowed)}. Give one of them, or leave it out for {task.key_metric}."
            )


class PatienceCallback(EarlyStoppingCallback):
    """[`EarlyStoppingCallback`] that also ends a run which is resumed from the checkpoint at which it had stopped."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        control.should_training_stop |= self.early_stopping_patience_counter >= self.early_stopping_patience
        return control


def layer_depths(model: torch.nn.Module) -> dict[str, int]:
    """Maps each parameter to its depth below the classifier.

    0 for the head on top of the encoder, 1 for its last layer, one more for each layer below, and one more again for
    the embeddings.

    Raises:
        ValueError: parameter names do not number the layers, as in a model that shares its layers.
    """
    names = [name for name, _ in model.named_parameters()]
    numbers = {name: int(found.group(1)) for name in names if (found := _LAYER_NUMBER.search(name))}
    if not numbers:
        raise GAUError(
            f"--layerwise_lr_decay: the layers of {type(model).__name__} are not numbered in its parameters' names. "
            "Leave it out."
        )
    layers = max(numbers.values()) + 1
    outside = {name: layers + 1 if "embed" in name else 0 for name in names}
    return outside | {name: layers - number for name, number in numbers.items()}


# `model.layers.3.`, `bert.encoder.layer.3.`
_LAYER_NUMBER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


def _by_depth(parameters: Sequence, depth_of: dict) -> list[tuple[int, list]]:
    depths = sorted({depth_of[parameter] for parameter in parameters})
    return [(depth, [parameter for parameter in parameters if depth_of[parameter] == depth]) for depth in depths]


class GlueTrainer(RunTrainer):
    """[`RunTrainer`] that reports the metrics of a task and, if there are two, their mean as `combined_score`.

    Args:
        task: the task of the data.
        label_names: classes in the order of the model's outputs. F1 belongs to class 1 in the task's order.
        **arguments: the Trainer's.
    """

    def __init__(
        self,
        task: GlueTask,
        label_names: Sequence[str],
        **arguments,
    ):
        super().__init__(
            compute_metrics=self.compute_task_metrics,
            preprocess_logits_for_metrics=self.predictions_from_logits,
            **arguments,
        )
        self.add_callback(_PaceCallback(self))
        self.watch, self.flops = Stopwatch(), 0.0
        # If a forward method has `**kwargs`, the Trainer assumes a loss already divided by the rows of the whole step.
        # A regression's loss is the mean of its batch, and so is every loss of BERT: gradients would grow with the
        # accumulation steps and with the number of processes.
        self.model_accepts_loss_kwargs = False
        self.task = task
        self.class_names = tuple(label_names)

    def outside_training(self) -> AbstractContextManager:
        return self.watch.paused()

    def floating_point_ops(self, inputs) -> float:
        flops = super().floating_point_ops(inputs)
        self.flops += flops
        return flops

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.args.layerwise_lr_decay != 1:
            depths = layer_depths(self.model if model is None else model)
            optimizer = super().create_optimizer(model)
            named = (self.model if model is None else model).named_parameters()
            depth_of = {parameter: depths[name] for name, parameter in named}
            optimizer.param_groups = [
                {**group, "params": members, "lr": group["lr"] * self.args.layerwise_lr_decay**depth}
                for group in optimizer.param_groups
                for depth, members in _by_depth(group["params"], depth_of)
            ]
        return super().create_optimizer(model)

    def predictions_from_logits(
        self, logits: torch.Tensor | tuple, labels: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """(batch, labels) logits -> predictions and their probabilities, so that an evaluation keeps no logits.

        These are (batch,) scores alone, (batch,) class ids with (batch,) probabilities, or, for a multi-label problem,
        both of (batch, labels).
        """
        if isinstance(logits, tuple):  # models that return hidden states or attentions as well
            logits = logits[0]
        predictions = self.task.predictions_from_logits(logits)
        if self.task.is_regression:
            return (predictions,)
        return predictions, self.task.probabilities_from_logits(logits)

    def compute_task_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        return self.task.compute_metrics(evaluation.predictions[0], evaluation.label_ids, self.class_names)

    def predict(self, *args, **kwargs) -> PredictionOutput:
        # The Trainer would group these rows by length too, and return predictions in that order.
        with replaced(self.args, train_sampling_strategy="random"):
            return super().predict(*args, **kwargs)


class _PaceCallback(TrainerCallback):
    """Warns of steps that are far too slow, see [`Pace`]."""

    def __init__(self, trainer: GlueTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.pace = Pace(args, self.trainer.watch, lambda: self.trainer.flops)

    def on_step_end(self, args, state, control, **kwargs):
        self.pace.count_step()
