# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Masked-language-model pretraining with `transformers.Trainer`: only what the Trainer does not already do.

That is: masks that survive a resume, exact token-weighted evaluation metrics, and evaluation of one model at several
sequence lengths.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints
from transformers.utils import CONFIG_NAME, is_torch_bf16_gpu_available, is_torch_xla_available, logging


logger = logging.get_logger(__name__)

IGNORED_LABEL = -100


@dataclass
class PretrainingArguments(TrainingArguments):
    """[`TrainingArguments`] plus what a pretraining run needs, with two defaults of its own."""

    include_num_input_tokens_seen: Literal["all", "non_padding", "no"] = field(
        default="non_padding", metadata={"help": "Which input tokens to count. Tokens per second need them."}
    )
    # The Trainer replaces a NaN loss in the log by the average of the losses before it. A diverged pretraining run
    # must not look like a healthy one.
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave NaN and infinite losses out of the logged loss."}
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Start anew in an `output_dir` that holds an earlier run; its `checkpoint-*` folders are deleted."
        },
    )
    fill_mask_example: str | None = field(
        default=None,
        metadata={
            "help": "Text with one mask token that the trained model fills in at the end of the run. By default a "
            "piece of the validation text."
        },
    )

    def __post_init__(self):
        take_cpu_for_bfloat16(self)
        super().__post_init__()
        # Both settings take the exact metrics of an evaluation away, and would do so without a word.
        for name in ("prediction_loss_only", "batch_eval_metrics"):
            if getattr(self, name):
                raise ValueError(
                    f"--{name} is not supported here: the token-weighted loss and accuracy are computed from "
                    "per-row totals, which take next to no memory. Leave it out."
                )


def take_cpu_for_bfloat16(args: TrainingArguments) -> None:
    """Sets `use_cpu` where bfloat16 is asked for and there is no accelerator: [`TrainingArguments`] refuses the pair,
    so that a recipe for GPUs would not run elsewhere. Must come before its `__post_init__`. An accelerator that cannot
    do bfloat16 is left to its refusal."""
    if args.use_cpu or not (args.bf16 or args.bf16_full_eval):
        return
    if torch.accelerator.is_available() or is_torch_bf16_gpu_available() or is_torch_xla_available():
        return
    args.use_cpu = True
    if int(os.environ.get("RANK", "0")) == 0:
        logger.warning(
            "There is no accelerator: bfloat16 is computed on the CPU (--use_cpu). A CPU without instructions for it "
            "is faster with --bf16 false."
        )


@dataclass
class EpochMaskingCollator(DataCollatorForLanguageModeling):
    """Dynamic masking in which the mask is a function of the seed, the epoch and the tokens of the batch.

    With the global random state the first batches after a resume are masked otherwise than in a run without a break:
    the Trainer restores that state only once the data loader, which reads ahead, has already masked them. `seed` is
    required.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.seed is None:
            raise ValueError("EpochMaskingCollator needs `seed`: the masks of a run follow from it.")
        # In shared memory, so that the workers of a data loader that keeps them over epochs see it change.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.special_ids = torch.tensor(self.tokenizer.all_special_ids)

    def torch_mask_tokens(self, inputs, special_tokens_mask=None, offset_mapping=None):
        digest = hashlib.blake2b(f"{self.seed},{self.epoch.item()}:".encode(), digest_size=7)
        digest.update(inputs.numpy().tobytes())
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest.digest(), "little"))
        if special_tokens_mask is None:
            special_tokens_mask = torch.isin(inputs, self.special_ids)
        return super().torch_mask_tokens(inputs, special_tokens_mask, offset_mapping)


class _EpochToCollator(TrainerCallback):
    def __init__(self, collator: EpochMaskingCollator):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        # A resumed run begins an epoch in its middle: the whole part is the number of the epoch in both cases.
        self.collator.epoch.fill_(int(state.epoch or 0))


def masked_lm_row_totals(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Sums over the labelled positions of each row, `(batch, 3)` in float32: negative log likelihood, hits, positions.

    Args:
        logits: `(batch, seq, vocab)`, or `(labelled positions, vocab)` in reading order (sparse prediction), or a
            tuple of model outputs that begins with one of them.
        labels: `(batch, seq)`, -100 where there is nothing to predict.
    """
    logits = logits[0] if isinstance(logits, tuple) else logits
    labelled = labels != IGNORED_LABEL
    if logits.dim() == 3:
        logits = logits[labelled]
    targets = labels[labelled]
    # A row of `logits` in bfloat16 has 8 bits of mantissa: too few to sum exponentials over a vocabulary.
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
        raise ValueError("The evaluation set has no labelled token: raise --mlm_probability or give more text.")
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


class MaskedLMTrainer(Trainer):
    """[`Trainer`] whose evaluations of a masked language model are exact.

    The Trainer's own `eval_loss` is a mean of batch means, which weights tokens by the batch they fall into; here
    every labelled token counts the same, with any batch size and number of processes. Logits are reduced to three
    numbers a row as soon as they are there, dense or sparse.

    Evaluation rows come masked (columns `input_ids`, `attention_mask`, `labels`), so that every evaluation asks for
    the same tokens.

    Args:
        tokenizer: saved with every checkpoint; pads the evaluation rows.
        saved_sparse_prediction: value of `config.sparse_prediction` in saved checkpoints, where it should be another
            than in training. None leaves the configuration as it is.
        kwargs: those of [`Trainer`], but `processing_class`, `compute_metrics` and `preprocess_logits_for_metrics`.
    """

    def __init__(self, *, tokenizer, saved_sparse_prediction: bool | None = None, **kwargs):
        super().__init__(
            processing_class=tokenizer,
            compute_metrics=masked_lm_metrics,
            preprocess_logits_for_metrics=masked_lm_row_totals,
            **kwargs,
        )
        self.saved_sparse_prediction = saved_sparse_prediction
        self.eval_collator = DataCollatorForTokenClassification(tokenizer)
        if isinstance(self.data_collator, EpochMaskingCollator):
            self.add_callback(_EpochToCollator(self.data_collator))

    def get_eval_dataloader(self, eval_dataset=None):
        # The collator of the training rows would mask these a second time.
        with _replaced(self, data_collator=self.eval_collator):
            return super().get_eval_dataloader(eval_dataset)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        if self.saved_sparse_prediction is None:
            return super().save_model(output_dir, _internal_call)
        with _replaced(self.model.config, sparse_prediction=self.saved_sparse_prediction):
            return super().save_model(output_dir, _internal_call)

    def create_model_card(self, *args, **kwargs):
        # Called before every push: the card that is there says more than the Trainer's draft.
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def evaluate_lengths(self, datasets: Mapping[int, Dataset], tokens_per_batch: int) -> list[dict[str, float]]:
        """Evaluate on rows of several lengths, the shortest first.

        Args:
            datasets: evaluation rows by their length in tokens.
            tokens_per_batch: tokens in a batch of one device. The number of rows follows from the length (at least
                one), so that short lengths are quick and long ones fit.

        Returns:
            A row `length, sequences, masked_tokens, loss, perplexity, accuracy, runtime` per length, runtime in
            seconds. The metrics are logged as `eval_length_<length>_<metric>`.
        """
        rows = []
        for length, dataset in sorted(datasets.items()):
            # The Trainer keeps a persistent loader under one name for all data sets that are handed to it.
            settings = {
                "per_device_eval_batch_size": max(1, tokens_per_batch // length),
                "dataloader_persistent_workers": False,
            }
            prefix = f"eval_length_{length}"
            with _replaced(self.args, **settings):
                metrics = self.evaluate(dataset, metric_key_prefix=prefix)
            names = ("masked_tokens", "loss", "perplexity", "accuracy", "runtime")
            rows.append(
                {"length": length, "sequences": len(dataset)} | {name: metrics[f"{prefix}_{name}"] for name in names}
            )
        return rows


def load_with_misfits(auto_class: type, name: str, **options) -> tuple[PreTrainedModel, dict[str, str]]:
    """Loads `name` with `auto_class.from_pretrained`.

    Returns:
        The model, and the tensors that are random in it because the checkpoint has none of that name and shape: name
        -> "missing" or both shapes. [`check_fit`] refuses them.
    """
    # Without `ignore_mismatched_sizes` transformers raises an error that does not name the tensors.
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    model, loading = auto_class.from_pretrained(name, **options)
    misfits = dict.fromkeys(loading["missing_keys"], "missing")
    misfits |= {key: f"{tuple(there)} there, {tuple(here)} here" for key, there, here in loading["mismatched_keys"]}
    return model, misfits


def check_fit(name: str, misfits: Mapping[str, str], way_out: str) -> None:
    """Raises ValueError where `misfits` of the checkpoint `name` are left, naming the first few and the way out."""
    if not misfits:
        return
    first = [f"{key} ({problem})" for key, problem in sorted(misfits.items())[:4]]
    more = f" and {len(misfits) - len(first)} more" if len(misfits) > len(first) else ""
    raise ValueError(
        f"The weights of the checkpoint {name} do not fit its model; these would be random: {', '.join(first)}{more}. "
        f"{way_out}"
    )


def find_checkpoint(args: PretrainingArguments) -> str | None:
    """The checkpoint to resume from, or None for a new run. Touches nothing.

    `args.resume_from_checkpoint` is a directory that the Trainer saved, or `last` (also `true`) for the newest one in
    `args.output_dir`.

    Raises:
        ValueError: there is no such checkpoint; or the run is new, `args.output_dir` holds an earlier one, and
            `args.overwrite_output_dir` does not allow to replace it.
    """
    output_dir, wanted = Path(args.output_dir), args.resume_from_checkpoint
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"--output_dir {output_dir} is a file. Name a directory, new or old.")
    last = get_last_checkpoint(output_dir) if output_dir.is_dir() else None
    if wanted is None or str(wanted).lower() == "false":
        _check_new_run(output_dir, last, args.overwrite_output_dir)
        return None
    if args.overwrite_output_dir:
        raise ValueError("--resume_from_checkpoint continues a run and --overwrite_output_dir deletes it: keep one.")
    if str(wanted).lower() not in ("last", "true"):
        last = str(wanted)
    elif last is None:
        raise ValueError(f"--resume_from_checkpoint {wanted}: --output_dir {output_dir} has no checkpoint-* folder.")
    if not (Path(last) / TRAINER_STATE_NAME).is_file():
        raise ValueError(
            f"--resume_from_checkpoint {last} is not a checkpoint of the Trainer (it has no {TRAINER_STATE_NAME}). "
            "Give a checkpoint-* folder, or `last`; a finished model is continued with --model_name_or_path."
        )
    return last


def _check_new_run(output_dir: Path, last: str | None, overwrite: bool) -> None:
    # Other files in the directory (notes, a clone of a Hub repository) are not in the way.
    if overwrite or (last is None and not (output_dir / CONFIG_NAME).is_file()):
        return
    raise ValueError(
        f"--output_dir {output_dir} holds an earlier run. Take another directory, continue that run with "
        "--resume_from_checkpoint last, or replace it with --overwrite_output_dir."
    )


def remove_checkpoints(args: TrainingArguments) -> None:
    """Deletes the `checkpoint-*` folders of an earlier run.

    Left there, they would be taken for the newest ones of this run: by a resume, and by `save_total_limit`, which
    would delete this run's instead.
    """
    with args.main_process_first(desc="removal of earlier checkpoints"):
        for path in map(Path, sort_checkpoints(args.output_dir) if Path(args.output_dir).is_dir() else []):
            if args.should_save and (path / TRAINER_STATE_NAME).is_file():
                shutil.rmtree(path)
                print(f"Deleted {path} of an earlier run.")


@contextmanager
def _replaced(target: object, **values) -> Iterator[None]:
    """Attributes of `target` set to `values` for as long as the block runs."""
    before = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)
