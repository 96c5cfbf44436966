# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Masked-language-model pretraining: what it adds to the Trainer of every run.

Batches that know their number, exact token-weighted evaluation metrics, evaluation at several sequence lengths, and
accuracy and speed in the log.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch.nn import functional as F
from transformers import (
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SchedulerType,
    TrainerCallback,
)
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import logging

from ..configuration_gau import GAUConfig, GAUError
from ..runs.arguments import RunArguments
from ..runs.optimizers import MUON
from ..runs.progress import ModelFlops, Speedometer
from ..runs.trainer import RunTrainer, replaced
from ..text.batches import TrainingLoader, sum_totals
from ..text.masking import IGNORED_LABEL
from ..unpadding_gau import same_document


logger = logging.get_logger(__name__)


@dataclass
class PretrainingArguments(RunArguments):
    """[`RunArguments`] plus the schedule and what else a pretraining run needs."""

    RATE_AT_768: ClassVar[tuple[float, float]] = (7e-4, 1.0)
    RATE_OF_MUON: ClassVar[float] = 2.0

    warmup_steps: float = field(
        default=0.05, metadata={"help": "Steps of linear warm-up or, below 1, a share of all steps."}
    )
    weight_decay: float | None = field(
        default=None,
        metadata={"help": "Weight decay of matrices and embeddings. Default: 0.01, and 0.1 with --optim muon."},
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "AdamW's decay of the mean square of the gradient."})
    decay_steps: float = field(
        default=0.1,
        metadata={
            "help": "Length of the decay of lr_scheduler_type warmup_stable_decay: a number of steps or, below 1, a "
            "share of all steps."
        },
    )
    decay_type: Literal["1-sqrt", "linear", "cosine"] = field(
        default="1-sqrt", metadata={"help": "Shape of that decay."}
    )
    accept_changed_data: bool = field(
        default=False,
        metadata={"help": "Let a run resume with different text or a different tokenizer."},
    )
    fill_mask_example: str | None = field(
        default=None,
        metadata={
            "help": "Text with one mask token for the trained model to fill in at the end. Default: a piece of the "
            "validation text."
        },
    )

    def __post_init__(self):
        # Batches know their number, so a resume need not read and discard the ones before.
        self.ignore_data_skip = True
        self.check_steps()
        if self.weight_decay is None:
            # With 0.01, Muon's matrices grow for as long as it trains, and a long run's model fine-tuned badly.
            self.weight_decay = 0.1 if self.optim == MUON else 0.01
        super().__post_init__()
        if self.auto_find_batch_size:
            raise GAUError(
                "--auto_find_batch_size is not supported here: tokens per step are part of a recipe. Lower "
                "--per_device_train_batch_size and raise --gradient_accumulation_steps by the same factor."
            )
        if not 0 <= self.decay_steps < math.inf:
            raise GAUError(f"--decay_steps must be a finite number of at least 0, got {self.decay_steps}.")
        is_filled = self.lr_scheduler_type == SchedulerType.WARMUP_STABLE_DECAY
        self.check_optimization(**({"num_decay_steps": 0, "decay_type": self.decay_type} if is_filled else {}))

    def fill_schedule(self) -> None:
        """Copies `decay_steps` and `decay_type` into `lr_scheduler_kwargs`, whose entries win. Needs `max_steps`."""
        if self.lr_scheduler_type != SchedulerType.WARMUP_STABLE_DECAY:
            return
        steps = self.decay_steps if self.decay_steps >= 1 else self.decay_steps * self.max_steps
        kwargs = {"num_decay_steps": round(steps), "decay_type": self.decay_type} | (self.lr_scheduler_kwargs or {})
        warm, decay = self.get_warmup_steps(self.max_steps), kwargs["num_decay_steps"]
        if warm + decay > self.max_steps:
            raise GAUError(
                f"A warm-up of {warm} steps and a decay of {decay} exceed the {self.max_steps} steps of the run: "
                "lower --warmup_steps or --decay_steps."
            )
        self.lr_scheduler_kwargs = kwargs


def masked_lm_loss(
    outputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy in nats of `(batch, seq, vocab)` logits: its sum over labelled positions, divided by
    `num_items_in_batch` (the labelled positions of the whole step) or by their number here; 0 if there are none."""
    labelled = labels != IGNORED_LABEL
    logits = outputs["logits"][labelled].float()
    total = F.cross_entropy(logits, labels[labelled], reduction="sum", label_smoothing=label_smoothing)
    count = labelled.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
    return total / count.clamp(min=1)


def masked_lm_row_totals(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Sums over the labelled positions of each row, `(batch, 3)` in float32: negative log likelihood, hits, positions.

    Args:
        logits: `(batch, seq, vocab)`, or `(labelled positions, vocab)` in reading order (sparse prediction), or a
            tuple of model outputs that begins with either.
        labels: `(batch, seq)`, -100 at positions without a label.
    """
    logits = logits[0] if isinstance(logits, tuple) else logits
    labelled = labels != IGNORED_LABEL
    if logits.dim() == 3:
        logits = logits[labelled]
    targets = labels[labelled]
    # bfloat16 has 8 bits of mantissa: too few to sum exponentials over a vocabulary.
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    hits = (logits.argmax(dim=-1) == targets).float()
    totals = torch.zeros(labels.shape[0], 3, device=labels.device)
    rows = labelled.nonzero()[:, 0]
    return totals.index_add_(0, rows, torch.stack((losses, hits, torch.ones_like(losses)), dim=-1))


def masked_lm_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Metrics over all labelled tokens of an evaluation, from the rows of [`masked_lm_row_totals`].

    `loss` is the mean negative log likelihood in nats, `perplexity` its exponential, `accuracy` the share of labelled
    tokens with the highest logit, `masked_tokens` their number.
    """
    loss, hits, count = prediction.predictions.sum(axis=0, dtype="float64").tolist()
    if count == 0:
        raise GAUError("The evaluation set has no labelled token: raise --mlm_probability or give more text.")
    return {
        "loss": loss / count,
        "accuracy": hits / count,
        "perplexity": _exp(loss / count),
        "masked_tokens": int(count),
    }


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


class MaskedLMTrainer(RunTrainer):
    """[`RunTrainer`] for masked language models, with its own training batches and exact evaluations.

    The Trainer's own `eval_loss` is a mean of batch means, so a token's weight depends on its batch. Here, each
    labelled token counts the same, whatever the batch size and number of processes. Logits, dense or sparse, shrink to
    three numbers a row at once.

    Evaluation rows come masked (columns `input_ids`, `attention_mask`, `labels`): every evaluation asks for the same
    tokens.

    Args:
        tokenizer: saved with every checkpoint; pads the evaluation rows.
        loader: batches of the whole run, for this process; `args.max_steps` is their number of steps.
        flops: counts of the model, for its FLOP utilisation.
        saved_sparse_prediction: `config.sparse_prediction` of saved checkpoints, if it should differ from training.
        description: of the run, as JSON; saved in every checkpoint and compared on resume.
        kwargs: the arguments of [`Trainer`], except `train_dataset`, `data_collator`, `processing_class`,
            `compute_metrics` and `preprocess_logits_for_metrics`.
    """

    def __init__(
        self,
        *,
        tokenizer,
        loader: TrainingLoader,
        flops: ModelFlops | None = None,
        saved_sparse_prediction: bool | None = None,
        description: Mapping[str, Any] | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        **kwargs,
    ):
        args, config = kwargs["args"], kwargs["model"].config.to_dict()
        # Dense models of transformers return the mean of a batch and ignore `num_items_in_batch`: accumulated batches
        # or several processes would change the size of the gradients.
        loss = partial(masked_lm_loss, label_smoothing=args.label_smoothing_factor)
        loss = None if "sparse_prediction" in config else loss
        super().__init__(
            processing_class=tokenizer,
            compute_metrics=masked_lm_metrics,
            preprocess_logits_for_metrics=masked_lm_row_totals,
            compute_loss_func=loss,
            # Before the caller's: one that stops the run has the last word.
            callbacks=[_RunOfBatches(self), *(callbacks or [])],
            **kwargs,
        )
        self.saved_sparse_prediction = saved_sparse_prediction
        self.loader, self.description = loader, description
        self.eval_collator = DataCollatorForTokenClassification(tokenizer)
        self.speed = Speedometer(self, flops)

    # ---- Training ----

    def get_train_dataloader(self):
        return self.loader

    def num_examples(self, dataloader):
        return len(dataloader) * self.args.train_batch_size * self.args.world_size

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if "document_ids" in inputs:
            inputs = dict(inputs)
            inputs |= keep_apart(self.model.config, inputs.pop("document_ids"))
        labels = inputs["labels"]  # the Trainer pops them for its own loss
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            self.speed.count_hits(
                outputs["logits"], labels, inputs["input_ids"] == self.processing_class.mask_token_id
            )
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs = logs | self.speed.metrics()
        super().log(logs, start_time)

    def training_step(self, model, inputs, *args, **kwargs):
        # Pinned memory is copied while the device still computes.
        inputs = {
            name: value.to(self.args.device, non_blocking=True) if value.is_pinned() else value
            for name, value in inputs.items()
        }
        return super().training_step(model, inputs, *args, **kwargs)

    def outside_training(self) -> AbstractContextManager:
        return self.speed.watch.paused()

    def totals(self) -> dict[str, Any]:
        """Counts what all processes have trained on since the run began: positions, tokens, omissions. Collective."""
        return asdict(sum_totals(gather_object([asdict(self.loader.totals)])))

    def run_state(self):
        totals, is_first = self.totals(), self.args.process_index == 0
        self.state.num_input_tokens_seen = totals["tokens"]
        state = super().run_state() | {"data": self.loader.state(), "speed": self.speed.state()}
        # Only the first process: the sum must survive a change in their number.
        return state | ({"totals": totals, "description": self.description} if is_first else {})

    def load_run_state(self, state):
        super().load_run_state(state)
        state = state or {}
        self.speed.load_state(state.get("speed", {}), self.resumed_world_size == self.args.world_size)
        self.loader.resume(
            self.state.global_step * self.args.gradient_accumulation_steps, state.get("data"), state.get("totals")
        )

    def batch_name(self, micro_batch, micro_batches, process):
        number = self.state.global_step * self.args.gradient_accumulation_steps + micro_batch
        return f"batch {number:,}" + (f" of process {process}" if self.args.world_size > 1 else "")

    # ---- Evaluating and saving ----

    def get_eval_dataloader(self, eval_dataset=None):
        # The collator of training rows would mask these again.
        with replaced(self, data_collator=self.eval_collator):
            return super().get_eval_dataloader(eval_dataset)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        if self.saved_sparse_prediction is None:
            return super().save_model(output_dir, _internal_call)
        with replaced(self.model.config, sparse_prediction=self.saved_sparse_prediction):
            return super().save_model(output_dir, _internal_call)

    def evaluate_lengths(self, datasets: Mapping[int, Dataset], tokens_per_batch: int) -> list[dict[str, float]]:
        """Evaluates rows of several lengths, shortest first.

        Args:
            datasets: evaluation rows by their length in tokens.
            tokens_per_batch: tokens in a batch of one device (at least one row), so that short lengths are quick and
                long ones fit.

        Returns:
            A row `length, sequences, masked_tokens, loss, perplexity, accuracy, runtime` (seconds) per length. Metrics
            are logged as `eval_length_<length>_<metric>`.
        """
        rows = []
        for length, dataset in sorted(datasets.items()):
            # The Trainer keeps one persistent loader for all data sets handed to it.
            settings = {
                "per_device_eval_batch_size": max(1, tokens_per_batch // length),
                "dataloader_persistent_workers": False,
            }
            prefix = f"eval_length_{length}"
            with replaced(self.args, **settings):
                metrics = self.evaluate(dataset, metric_key_prefix=prefix)
            names = ("masked_tokens", "loss", "perplexity", "accuracy", "runtime")
            rows.append(
                {"length": length, "sequences": len(dataset)} | {name: metrics[f"{prefix}_{name}"] for name in names}
            )
        return rows


def keep_apart(config: PreTrainedConfig, document_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The argument that tells a model which tokens of a batch share a document: a GAU model takes `document_ids`,
    `(batch, seq)`, as they are, others a boolean mask `(batch, 1, seq, seq)`."""
    if config.model_type == GAUConfig.model_type:
        return {"document_ids": document_ids}
    return {"attention_mask": same_document(document_ids)}


def check_packing(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError if a model does not keep the documents of a row apart: if two documents in one row do not get
    the logits that each gets alone.

    Models treat a caller's mask differently (local attention, fixed positions), so this tries it, on documents longer
    than a window of local attention.
    """
    generator = torch.Generator().manual_seed(0)
    vocabulary = min(len(tokenizer), model.get_input_embeddings().num_embeddings)
    longest = min(model.config.to_dict().get("max_position_embeddings") or 512, 512)
    sizes = (longest // 3, longest - longest // 3)
    documents = [torch.randint(vocabulary, (1, size), generator=generator) for size in sizes]
    numbers = torch.repeat_interleave(torch.arange(1, 3), torch.tensor(sizes))[None]
    positions = torch.cat([torch.arange(size) for size in sizes])[None]
    was_training = model.training
    # In bfloat16, rounding changes a new model's logits more than attention does.
    tried = (model if model.dtype == torch.float32 else copy.deepcopy(model).float()).eval()
    try:
        with torch.no_grad():
            row = {"input_ids": torch.cat(documents, dim=1), "position_ids": positions}
            apart = tried(**row, **keep_apart(model.config, numbers)).logits
            joined = tried(**row, attention_mask=torch.ones_like(numbers)).logits
            alone = torch.cat(
                [tried(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for ids in documents], 1
            )
        # A new model attends almost evenly: compare the error with the change that no mask at all makes.
        problem = "their logits change" if (apart - alone).norm() > 0.02 * (joined - alone).norm() else None
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        problem = f"it rejects such a row ({error})"
    finally:
        model.train(was_training)
    if problem is not None:
        raise GAUError(
            f"--packing documents: {type(model).__name__} does not keep the documents of a row apart: {problem}. Take "
            "--packing concat or none for this model, or another --attn_implementation, such as sdpa."
        )


class _RunOfBatches(TrainerCallback):
    """The Trainer sees the batches of the whole run as one epoch: this keeps the epoch of the data, what happens once
    an epoch, and the RoPE base of a stage."""

    def __init__(self, trainer: MaskedLMTrainer):
        self.trainer = trainer
        self.epochs, self.ended = 0, None

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.epochs = int(state.epoch or 0)
        self._set_theta(state.global_step, model)  # also if no step is left
        self.trainer.speed.begin()

    def on_train_end(self, args, state, control, model, **kwargs):
        self.trainer.speed.end()
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._set_theta(max(state.best_global_step - 1, 0), model)

    def on_step_begin(self, args, state, control, model, **kwargs):
        self._set_theta(state.global_step, model)

    def _set_theta(self, step, model):
        theta = self.trainer.loader.plan.rope_theta(step)
        if theta is not None:
            set_rope_theta(model, theta)

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.speed.pace.count_step()
        state.epoch = self.trainer.loader.epoch
        if int(state.epoch) > self.epochs:
            self.epochs, self.ended = int(state.epoch), state.global_step
            control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
            is_time = args.eval_strategy == IntervalStrategy.EPOCH and args.eval_delay <= state.epoch
            control.should_evaluate |= is_time
            control.should_save |= args.save_strategy == SaveStrategy.EPOCH

    def on_epoch_end(self, args, state, control, **kwargs):
        # The Trainer's epoch ends with the run. If one of the data ended too, all is done.
        if self.ended == state.global_step:
            control.should_log = control.should_evaluate = control.should_save = False


def set_rope_theta(model: torch.nn.Module, rope_theta: float) -> None:
    """Changes the RoPE base of a GAU model, also in its configuration."""
    for module in model.modules():
        # By name: the class may come from remote code.
        if type(module).__name__ == "GAURotaryEmbedding" and module.config.rope_parameters["rope_theta"] != rope_theta:
            module.set_theta(rope_theta)
