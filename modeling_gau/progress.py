# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a run shows of itself: speed against the machine's measured peak, and a progress bar that says it."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, PreTrainedConfig, ProgressCallback
from transformers.utils import logging


logger = logging.get_logger(__name__)

# What models of transformers raise that look at values, of which there are none without memory.
_FAILURES = (AssertionError, AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)


class ModelFlops:
    """Floating-point operations of a training step by row length, counted on a model without memory.

    Counts the matrix products of the forward pass as `torch.utils.flop_counter` does, attention included, with the
    vocabulary projection for the labelled share of the positions where the model computes no more, and twice as many
    for the backward pass (Chowdhery et al. 2022, arXiv:2204.02311, appendix B). Recomputation does not count.

    Args:
        config: of a masked language model.
        labelled: share of the positions that have a label.
    """

    def __init__(self, config: PreTrainedConfig, labelled: float):
        self._config = copy.deepcopy(config)
        self._dense = 1.0
        if self._config.to_dict().get("sparse_prediction"):
            self._config.sparse_prediction, self._dense = False, labelled
        self._model = None

    @lru_cache(maxsize=64)  # noqa: B019 - one object a run
    def row(self, length: int) -> float | None:
        """Of one row of `length` tokens, forward and backward; None where the model does not run without memory."""
        try:
            with torch.device("meta"), torch.no_grad():
                if self._model is None:
                    self._model = AutoModelForMaskedLM.from_config(self._config, attn_implementation="eager").eval()
                with FlopCounterMode(display=False) as counter:
                    # A mask in its final form: in another, some models look for padding, at values there are none of.
                    mask = torch.zeros(1, 1, length, length)
                    self._model(input_ids=torch.zeros(1, length, dtype=torch.long), attention_mask=mask)
        except _FAILURES as error:
            logger.info(f"No FLOP count for {self._config.model_type} at length {length}: {error}")
            return None
        head = self._model.get_output_embeddings()
        projection = 2.0 * head.weight.numel() * length if head is not None else 0.0
        return 3 * (counter.get_total_flops() - (1 - self._dense) * projection)


def measure_matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.4) -> float:
    """Floating-point operations a second of this process in a matrix product large enough to be bound by arithmetic:
    the best of repeated products for about `seconds`."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        _finish(device)
        begin = time.perf_counter()
        left @ right
        _finish(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Stopwatch:
    """Seconds of training: evaluations and checkpoints do not count."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self._begin, self._paused = time.perf_counter(), 0.0

    def seconds(self) -> float:
        return time.perf_counter() - self._begin - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - begin


class PretrainingProgress(ProgressCallback):
    """The Trainer's progress bar, with the last log behind it in place of a line for each; evaluations get a line."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if "loss" in logs:
            self.training_bar.set_postfix_str(describe_log(logs), refresh=True)
            if logs.get("skipped_steps"):
                self.training_bar.write(
                    f"step {state.global_step}: {logs['skipped_steps']} steps left out, not finite"
                )
        elif "eval_loss" in logs:
            self.training_bar.write(
                f"step {state.global_step}: evaluation loss {logs['eval_loss']:.4f}, accuracy "
                f"{logs['eval_accuracy']:.2%}"
            )


def describe_log(logs: Mapping[str, float]) -> str:
    """`loss 3.427, accuracy 44.6%, ...` of what the trainer logs in training."""
    formats = {
        "loss": "loss {:.4f}",
        "masked_accuracy": "accuracy {:.1%}",
        "grad_norm": "gradient {:.2f}",
        "tokens_per_second": "{:,.0f} tok/s",
        "mfu": "MFU {:.0%}",
        "padding": "padding {:.1%}",
        "row_length": "length {:.0f}",
    }
    return ", ".join(text.format(logs[name]) for name, text in formats.items() if name in logs)
