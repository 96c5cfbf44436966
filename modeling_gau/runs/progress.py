# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Speed of a run against the machine's measured peak, and the progress bar of every run."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM, PreTrainedConfig, ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils import logging

from ..configuration_gau import GAUConfig
from ..text.batches import Totals, sum_totals
from ..text.masking import IGNORED_LABEL


logger = logging.get_logger(__name__)

# Raised by models of transformers that look at values: on the meta device there are none.
_FAILURES = (AssertionError, AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)


_WORTH_A_WORD = 3  # seconds for ten steps: in fewer, a moment's work of another program looks like a slow machine


class ModelFlops:
    """Floating-point operations of a training step by row length, counted on the meta device.

    Counts the matrix products of the forward pass, attention included, as `torch.utils.flop_counter` does, and twice
    as many for the backward pass (Chowdhery et al. 2022, arXiv:2204.02311, appendix B). With sparse prediction, the
    vocabulary projection counts for labelled positions only. Recomputation does not count.

    Args:
        config: configuration of a masked language model.
        labelled: share of positions with a label.
    """

    def __init__(self, config: PreTrainedConfig, labelled: float):
        self._config = copy.deepcopy(config)
        self._dense = 1.0
        if self._config.to_dict().get("sparse_prediction"):
            self._config.sparse_prediction, self._dense = False, labelled
        self._model = None

    @lru_cache(maxsize=64)  # noqa: B019 - one object a run
    def row(self, length: int) -> float | None:
        """Counts a row of `length` tokens, forward and backward; None if the model cannot run on the meta device."""
        try:
            with torch.device("meta"), torch.no_grad():
                if self._model is None:
                    self._model = AutoModelForMaskedLM.from_config(self._config, attn_implementation="eager").eval()
                with FlopCounterMode(display=False) as counter:
                    # A 4-D mask: given a 2-D one, some models look for padding in its values.
                    mask = torch.zeros(1, 1, length, length)
                    self._model(input_ids=torch.zeros(1, length, dtype=torch.long), attention_mask=mask)
        except _FAILURES as error:
            logger.info(f"No FLOP count for {self._config.model_type} at length {length}: {error}")
            return None
        head = self._model.get_output_embeddings()
        projection = 2.0 * head.weight.numel() * length if head is not None else 0.0
        return 3 * (counter.get_total_flops() - (1 - self._dense) * projection - self._outside_windows(length))

    def _outside_windows(self, length: int) -> float:
        """What local attention counted but does not compute; 0 for models of other types."""
        config = self._config
        if config.model_type != GAUConfig.model_type or "sliding_attention" not in (config.layer_types or ()):
            return 0.0
        seen = min(length, config.sliding_window + 1)
        pairs = (length - seen) * (length - seen + 1)
        layers = config.layer_types.count("sliding_attention")
        return 2.0 * layers * pairs * (config.attention_key_size + config.intermediate_size)


def measure_matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.4) -> float:
    """Measures the floating-point operations a second of this process: the best of repeated large matrix products in
    about `seconds`."""
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


def slowdown_by_threads() -> float:
    """How many times as long a small matrix product takes with all threads as with one: about 1 or less, unless other
    programs use the cores or there are fewer of them than threads."""
    threads, matrix = torch.get_num_threads(), torch.ones(256, 256)  # takes no random numbers from the run
    seconds = []
    try:
        for number in (threads, 1):
            torch.set_num_threads(number)
            times = []
            for _ in range(20):
                begin = time.perf_counter()
                matrix @ matrix
                times.append(time.perf_counter() - begin)
            seconds.append(median(times))
    finally:
        torch.set_num_threads(threads)
    return seconds[0] / seconds[1]


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Stopwatch:
    """Counts seconds of training, without evaluations and checkpoints."""

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


class Pace:
    """Warns once if ten steps on a CPU take many times as long as they should.

    Args:
        watch: counts the seconds of training.
        flops: the floating-point operations of this process so far; None if they are not known.
        peak: those of a second, as [`measure_matmul_peak`] finds them; without it, they are measured at the first ten
            steps.
    """

    def __init__(
        self, args: TrainingArguments, watch: Stopwatch, flops: Callable[[], float | None], peak: float | None = None
    ):
        self._args, self._watch, self._flops, self._peak = args, watch, flops, peak
        self._steps, self._best_share, self._is_warned = 0, 0.0, False
        self._since = watch.seconds(), flops()

    def count_step(self) -> None:
        args = self._args
        self._steps += 1
        if self._steps % 10 or self._is_warned or args.device.type != "cpu" or not args.should_log:
            return
        (began, before), self._since = self._since, (self._watch.seconds(), self._flops())
        now, done = self._since
        if not done:
            return
        if self._peak is None:
            dtype = torch.bfloat16 if args.bf16 else torch.float32
            with self._watch.paused(), torch.random.fork_rng(devices=[]):
                self._peak = measure_matmul_peak(args.device, dtype)
        share = (done - before) / (now - began) / self._peak
        slower, self._best_share = self._best_share / share, max(self._best_share, share)
        if now - began < _WORTH_A_WORD:
            return
        if slower > 5:
            what = f"Steps take {slower:.0f} times as long as before"
        elif share < 0.1 and torch.get_num_threads() > 1 and (slower := slowdown_by_threads()) > 2:
            what = f"Steps are slow: {torch.get_num_threads()} threads take {slower:.0f} times as long as one"
        else:
            return
        self._is_warned = True
        half = "; --bf16 false helps a CPU without bfloat16 instructions" if args.bf16 else ""
        logger.warning(
            f"{what}. The cores are busy, or fewer than they look: end other programs, or set OMP_NUM_THREADS=1{half}."
        )


class Speedometer:
    """Measures speed of training since the last log, and loss and accuracy on [MASK] alone, over all processes.

    Tokens that masking left visible, or replaced by others, count in the loss of training only: a model can copy them.

    Args:
        trainer: one whose `loader` keeps totals.
        flops: counts of the model; without them, utilisation is not reported.
    """

    def __init__(self, trainer: Trainer, flops: ModelFlops | None):
        self.trainer, self.flops, self.peak, self.watch = trainer, flops, None, Stopwatch()
        self._resumed: Mapping[str, Any] = {}
        self._session_seconds = 0.0

    def begin(self) -> None:
        """Starts the clocks. Called when training begins, after a checkpoint is loaded."""
        args, before = self.trainer.args, self._resumed
        mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = mixed.get(args.mixed_precision, self.trainer.model.dtype)
        if self.flops is not None:
            self.peak = measure_matmul_peak(args.device, dtype)
        self.watch.reset()
        self._restart()
        self.pace = Pace(
            args, self.watch, lambda: self._flops(self.trainer.loader.totals.positions_by_length), self.peak
        )
        self._began, self._tokens_before = time.time(), self.trainer.loader.totals.tokens
        self._hits, self._masked = before.get("masked_hits", 0), before.get("masked", 0)
        self._masked_loss = before.get("masked_loss", 0.0)
        self._window_began = -before.get("window_seconds", 0.0)
        # The first process holds the totals of all.
        if "window_begin" in before and args.process_index == 0:
            self._before = sum_totals([before["window_begin"]])

    def seconds(self) -> float:
        """Seconds since the run began, with evaluations and checkpoints, without interruptions."""
        return self._resumed.get("seconds", 0.0) + time.time() - self._began

    def session_tokens_per_second(self, tokens: int) -> float:
        """Speed since training began or resumed; `tokens` counts the whole run. Only the first process knows it."""
        return (tokens - self._tokens_before) / self._session_seconds

    def end(self) -> None:
        self._session_seconds = self.watch.seconds()

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, from which the next line of the log counts on. Collective."""
        return {
            "masked_hits": int(self._hits),
            "masked": int(self._masked),
            "masked_loss": float(self._masked_loss),
            "seconds": self.seconds(),
            "window_seconds": self.watch.seconds() - self._window_began,
            "window_begin": asdict(sum_totals(gather_object([asdict(self._before)]))),
        }

    def load_state(self, state: Mapping[str, Any], same_processes: bool) -> None:
        self._resumed = state if same_processes else {"seconds": state.get("seconds", 0.0)}

    def _restart(self) -> None:
        self._window_began = self.watch.seconds()
        self._hits = self._masked = self._masked_loss = 0
        self._before = self.trainer.loader.totals

    @torch.no_grad()
    def count_hits(self, logits: torch.Tensor, labels: torch.Tensor, is_mask: torch.Tensor) -> None:
        """Counts a batch.

        Args:
            logits: `(batch, seq, vocab)`, or those of the labelled positions in reading order, `(labelled, vocab)`.
            labels: `(batch, seq)`, -100 at positions without a label.
            is_mask: boolean `(batch, seq)`, True where the model sees [MASK].
        """
        labelled = labels != IGNORED_LABEL
        if logits.dim() == 3:
            logits = logits[labelled]
        counted, targets = is_mask[labelled], labels[labelled]
        self._hits = self._hits + ((logits.argmax(dim=-1) == targets) & counted).sum()
        self._masked = self._masked + counted.sum()
        # Some rows at a time: logits in float32 of a large batch and vocabulary would take as much memory as a layer.
        for part, target, count in zip(*(tensor.split(256) for tensor in (logits, targets, counted)), strict=True):
            losses = nn.functional.cross_entropy(part.float(), target, reduction="none")
            self._masked_loss = self._masked_loss + (losses * count).sum()

    def metrics(self) -> dict[str, float]:
        """`masked_loss` and `masked_accuracy` on [MASK] alone, `tokens_per_second` (padding not counted), `padding`
        (share of the positions), `mfu` (share of the measured peak of the matrix product) and `row_length` (mean over
        the tokens)."""
        loader, seconds = self.trainer.loader, self.watch.seconds() - self._window_began
        now, before = loader.totals, self._before
        lengths = _positions_since(before, now)
        flops = self._flops(lengths)
        sums = torch.tensor(
            [
                float(self._hits),
                float(self._masked),
                float(self._masked_loss),
                now.positions - before.positions,
                now.tokens - before.tokens,
                sum(length * positions for length, positions in lengths.items()),
                flops or 0.0,
                self.peak or 0.0,
                now.tokens,
            ],
            dtype=torch.float64 if self.trainer.args.device.type != "mps" else torch.float32,
            device=self.trainer.args.device,
        )
        sums = self.trainer.accelerator.reduce(sums).tolist()
        hits, masked, masked_loss, positions, tokens, weighted, flops_done, peak, total = sums
        self._restart()
        self.trainer.state.num_input_tokens_seen = int(total)
        metrics = {
            "masked_loss": masked_loss / max(masked, 1),
            "masked_accuracy": hits / max(masked, 1),
            "tokens_per_second": round(tokens / seconds, 1),
            "padding": 1 - tokens / max(positions, 1),
            "row_length": weighted / max(positions, 1),
        }
        if flops is not None and peak:
            metrics["mfu"] = flops_done / seconds / peak
        return metrics

    def _flops(self, positions_by_length: Mapping[int, int]) -> float | None:
        if self.flops is None:
            return None
        rows = {length: self.flops.row(length) for length in positions_by_length}
        if None in rows.values():
            return None
        return sum(rows[length] * positions / length for length, positions in positions_by_length.items())


def _positions_since(before: Totals, now: Totals) -> dict[int, int]:
    """Length of rows -> positions in those that came between."""
    return {
        length: positions - before.positions_by_length.get(length, 0)
        for length, positions in now.positions_by_length.items()
    }


class RunProgress(ProgressCallback):
    """The Trainer's progress bar, with a name and the last log and evaluation; evaluations get a line each.

    There is one bar at a time: that of the training also counts the batches of an evaluation.
    """

    def __init__(self):
        super().__init__()
        self._log, self._evaluation, self._batches = "", "", 0

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, desc="Training", dynamic_ncols=True)
        self.current_step = 0

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        if not state.is_world_process_zero or not has_length(eval_dataloader):
            return
        total = len(eval_dataloader)
        if self.training_bar is None:
            self.prediction_bar = self.prediction_bar or tqdm(total=total, desc="Evaluating", dynamic_ncols=True)
            self.prediction_bar.update(1)
            return
        self._batches += 1
        if 10 * self._batches // total > 10 * (self._batches - 1) // total:  # ten times, also in a file
            self.training_bar.set_description(f"Evaluating {self._batches / total:.0%}")

    def on_evaluate(self, args, state, control, **kwargs):
        super().on_evaluate(args, state, control, **kwargs)
        self._batches = 0
        if self.training_bar is not None:
            self.training_bar.set_description("Training")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if "loss" in logs:
            self._log = describe_log(logs)
        elif "eval_loss" in logs:
            self._evaluation = describe_evaluation(logs)
            self.training_bar.write(f"step {state.global_step}: evaluation {self._evaluation}")
        shown = [self._log]
        if "accuracy" not in self._log and self._evaluation:  # fine-tuning has no metric but that
            shown.append(f"evaluation {self._evaluation}")
        self.training_bar.set_postfix_str(", ".join(filter(None, shown)), refresh=True)


def describe_evaluation(logs: Mapping[str, float]) -> str:
    """Formats the metrics of an evaluation: `loss 0.4270, accuracy 84.60%, f1 0.8512`."""
    others = ("runtime", "samples_per_second", "steps_per_second", "perplexity", "masked_tokens")
    metrics = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
    shown = {name: value for name, value in metrics.items() if name not in others}
    return ", ".join(
        f"{name} {value:.2%}" if name == "accuracy" else f"{name} {value:.4f}" for name, value in shown.items()
    )


def describe_log(logs: Mapping[str, float]) -> str:
    """Formats a training log: `loss 3.427, accuracy 44.6%, ...`."""
    formats = {
        "masked_loss" if "masked_loss" in logs else "loss": "loss {:.3f}",
        "masked_accuracy": "accuracy {:.1%}",
        "grad_norm": "gradient {:.2f}",
        "tokens_per_second": "{:,.0f} tok/s",
        "mfu": "MFU {:.0%}",
        "padding": "padding {:.1%}",
        "row_length": "length {:.0f}",
    }
    return ", ".join(text.format(logs[name]) for name, text in formats.items() if name in logs)
