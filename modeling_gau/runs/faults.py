# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a training run does when it is told to stop, and when its loss or its gradient is no number any more."""

import contextlib
import math
import os
import signal
import threading
from typing import Literal

import torch
from accelerate.utils import gather
from torch.distributed.tensor import DTensor
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from .checkpoints import StoppingCallback, last_whole_checkpoint


logger = logging.get_logger(__name__)

# Slurm sends the second where it is asked to announce the end of a job (`--signal=USR1@120`). Windows has only one.
# What reaches the processes is up to their launcher:
# - torchrun, and `accelerate launch` with several processes, pass SIGTERM on and themselves exit with 1.
# - SIGUSR1 kills torchrun, and the processes with it, unless its environment has
#   TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1, with which it is passed on, too.
# - `accelerate launch` with one process passes nothing on: signal the process itself, or start it with python.
TERMINATION_SIGNALS = tuple(one for one in signal.Signals if one.name in ("SIGTERM", "SIGUSR1"))
# So many bad batches in a row are no bad batches, but a model that has diverged.
MAX_SKIPPED_IN_A_ROW = 10


# ---- Signals ----


class TerminationCallback(StoppingCallback):
    """On SIGTERM or SIGUSR1 the run finishes its step, saves a checkpoint and stops, on all processes at one step.

    transformers' own `enable_jit_checkpoint` saves in the middle of a step, when the next batches have been read
    already, and each process by itself: a run cannot be resumed from that exactly. The two exclude each other.

    To be added as the last callback, so that nothing delays the save: an evaluation that is due at that step is left
    out, and made by the run that is resumed from the checkpoint (see [`StoppingCallback`]).

    A signal that comes during an evaluation or a save waits for its end and that of the step after it: all processes
    have to agree when to stop, and they do so once a step. Give Slurm's `--signal` more notice than these take. One
    that comes after the last step stops the run all the same, if there is a checkpoint of that step: resumed from it,
    the run only evaluates and writes its results. Without such a checkpoint the run ends as if there were no signal.

    A script goes on after `trainer.train()` like this:

    ```python
    try:
        trainer.train()
    finally:
        termination.restore_handlers()
    if termination.received:
        sys.exit(termination.exit_code())
    ```

    Attributes:
        received: the signal that stopped the run, the same on all processes; None as long as there was none.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = TERMINATION_SIGNALS):
        self.signals = signals
        self.received: signal.Signals | None = None
        self._arrived: signal.Signals | None = None
        self._saved: int | None = None  # step of the newest checkpoint
        self._handlers: dict[signal.Signals, object] = {}
        self._name = ""

    def exit_code(self) -> int:
        """128 + the number of the signal, as of a process that the signal ended: 143 for SIGTERM."""
        if self.received is None:
            raise ValueError("No signal was received: the exit code of the run is not that of a signal.")
        return 128 + self.received

    def restore_handlers(self) -> None:
        """Signals do again what they did before the training. Called at its end; after an exception, by the caller."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_init_end(self, args, state, control, **kwargs):
        if args.enable_jit_checkpoint:
            raise ValueError("--enable_jit_checkpoint is not needed: this run saves on SIGTERM anyway. Leave it out.")

    def on_train_begin(self, args, state, control, **kwargs):
        self._name = f"Process {args.process_index}: " if args.world_size > 1 else ""
        self.received = self._arrived = None
        self.evaluation_due = False
        self._saved = state.global_step  # that of the checkpoint a run is resumed from
        if threading.current_thread() is not threading.main_thread():
            logger.warning("Training outside the main thread: SIGTERM ends it without a checkpoint.")
        elif not self._handlers:
            self._handlers = {one: signal.signal(one, self._on_signal) for one in self.signals}

    def on_save(self, args, state, control, **kwargs):
        self._saved = state.global_step

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_handlers()
        self._agree(args)
        if self.received is not None and self._saved != state.global_step:
            logger.warning(f"{self.received.name} came after the last step, of which there is no checkpoint: ignored.")
            self.received = None

    def _on_signal(self, number: int, frame) -> None:
        name = signal.Signals(number).name
        if self._arrived is None:
            self._arrived = signal.Signals(number)
            text = f"{self._name}{name}: the run saves a checkpoint and stops after this step."
        else:
            text = f"{self._name}{name}: ignored, the run is already about to save and stop."
        # Not `print`: a handler may run amid a print of the program.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        # Here, where the check of loss and gradient has just waited for the device, and not at the end of the step.
        if args.world_size > 1:
            self._agree(args)

    def on_step_end(self, args, state, control, **kwargs):
        if args.world_size == 1:
            self._agree(args)
        if self.received is not None:
            self.evaluation_due = control.should_evaluate or _is_evaluated_by_epoch(args, state)
            control.should_save, control.should_evaluate, control.should_training_stop = True, False, True
        return control

    def _agree(self, args) -> None:
        """Takes note of a signal that came to any of the processes. Collective."""
        if args.world_size == 1:
            self.received = self.received or self._arrived
        else:
            numbers = torch.tensor([int(self._arrived or 0)], device=args.device)
            self.received = self.received or _signal_or_none(gather(numbers).max().item())

    def on_epoch_end(self, args, state, control, **kwargs):
        # The Trainer ends an epoch also where it stops in its middle. The checkpoint is there already.
        if self.received is not None:
            control.should_save = control.should_evaluate = False
        return control


def _signal_or_none(number: int) -> signal.Signals | None:
    return signal.Signals(number) if number else None


def _is_evaluated_by_epoch(args, state) -> bool:
    """Whether the Trainer would evaluate at the end of the epoch that ends with this step."""
    if args.eval_strategy != IntervalStrategy.EPOCH or state.epoch < args.eval_delay:
        return False
    return state.epoch % 1 == 0 or state.global_step >= state.max_steps


# ---- Loss and gradient ----


class NonFiniteError(FloatingPointError):
    """A loss, the gradient or a weight is NaN or infinite. The message names the step and the batch."""


class FiniteStepsMixin:
    """For a [`CheckpointedTrainer`]: no step is made from a loss or a gradient that is NaN or infinite.

    All losses of a step and the norm of its gradient, of all processes, are looked at just before the optimizer's
    step, so that all processes decide alike; this is the one time in a step when the device is waited for.
    With `non_finite = "stop"` the run ends with [`NonFiniteError`] before the weights change. With "skip" the
    gradient is dropped: weights and optimizer stay as they are, the step counts as done, and so the schedule goes on.
    Logged losses are means over the steps that were made, and each such line carries the number of `skipped_steps`.

    float16 with a gradient scaler makes infinite gradients of finite losses now and then on purpose: these are left
    to the scaler. DeepSpeed makes its step before anyone can look: with it, a run can only be stopped.

    Attributes:
        non_finite: "stop" or "skip".
        skipped_steps: steps left out since the beginning of the run, also before it was resumed.
    """

    non_finite: Literal["stop", "skip"] = "stop"
    skipped_steps: int = 0
    _skipped_in_a_row: int = 0
    # Since the last logged loss.
    _window_skipped: int = 0
    # Since `train` was called.
    _session_skipped: int = 0
    _session_made: int = 0

    def batch_name(self, micro_batch: int, micro_batches: int, process: int) -> str:
        """How messages name a batch, both numbers from 0. To be overridden where a batch has a name of its own."""
        of_process = f" of process {process}" if self.args.world_size > 1 else ""
        return f"micro-batch {micro_batch + 1} of {micro_batches}{of_process}"

    def step_skipped(self) -> None:
        """Called on all processes when a step is left out. To be overridden where its batches were counted."""

    # ---- The Trainer's methods ----

    def train(self, *args, **kwargs):
        if self.non_finite not in ("stop", "skip"):
            raise ValueError(f"non_finite is {self.non_finite!r}: take 'stop' or 'skip'.")
        if self.non_finite == "skip" and self.is_deepspeed_enabled:
            raise ValueError(
                "--non_finite skip does not work with DeepSpeed, which makes its steps itself: take stop."
            )
        self._step_losses: list[torch.Tensor] = []
        self.skipped_steps = self._skipped_in_a_row = self._window_skipped = 0
        self._session_skipped = self._session_made = 0
        output = super().train(*args, **kwargs)
        return output._replace(training_loss=output.metrics["train_loss"])

    def training_step(self, *args, **kwargs):
        if not self._step_losses:
            self._loss_before_step = self._tr_loss.clone()
        loss = super().training_step(*args, **kwargs)
        self._step_losses.append(loss.detach())
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        problems = self._problems(grad_norm)
        if not problems:
            self._skipped_in_a_row = 0
            self._session_made += 1
            return grad_norm
        self._skip_or_stop(model, problems)
        return None

    def _save_checkpoint(self, model, trial):
        self._check_weights()
        super()._save_checkpoint(model, trial)

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        self._window_steps = self.state.global_step - self._globalstep_last_logged
        return super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            self._correct_mean(logs)
        elif "train_loss" in logs:
            self._correct_totals(logs)
        return super().log(logs, *args, **kwargs)

    def run_state(self):
        counts = {
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self._skipped_in_a_row,
            "skipped_since_log": self._window_skipped,
        }
        return super().run_state() | counts

    def load_run_state(self, state):
        super().load_run_state(state)
        if state is None or "skipped_steps" not in state:
            return
        self.skipped_steps, self._skipped_in_a_row = state["skipped_steps"], state["skipped_in_a_row"]
        if self.resumed_world_size == self.args.world_size:
            self._window_skipped = state["skipped_since_log"]

    # ---- What they need ----

    def _problems(self, grad_norm: torch.Tensor | float | None) -> list[str]:
        """What is NaN or infinite in the step that is about to be made, in words; the same on all processes."""
        norm = 0.0 if grad_norm is None else grad_norm
        norm = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
        values = [value.to(self.args.device, torch.float32).reshape(1) for value in (*self._step_losses, norm)]
        self._step_losses = []
        processes = gather(torch.cat(values)).view(-1, len(values)).tolist()
        problems = [
            f"the loss of {self.batch_name(i, len(losses), process)} is {loss}"
            for process, (*losses, _) in enumerate(processes)
            for i, loss in enumerate(losses)
            if not math.isfinite(loss)
        ]
        norms = [norm for *_, norm in processes if not math.isfinite(norm)]
        if norms and not problems and self.accelerator.scaler is None:
            problems.append(f"the norm of the gradient is {norms[0]}, though every loss is finite")
        return problems

    def _skip_or_stop(self, model: torch.nn.Module, problems: list[str]) -> None:
        step = self.state.global_step + 1
        what = f"Step {step:,}: {'; '.join(problems[:4])}{'; ...' if len(problems) > 4 else ''}."
        if self.non_finite == "stop":
            raise NonFiniteError(
                f"{what} The run stops before the weights change. {self._way_back()} Ways out: a lower "
                "--learning_rate, a longer warm-up, a lower --max_grad_norm, or --non_finite skip, which leaves such "
                "steps out and counts them."
            )
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteError(
                f"{what} Nor could any of the {MAX_SKIPPED_IN_A_ROW} steps before be made: the model has diverged. "
                f"{self._way_back()} Ways out: an earlier checkpoint, a lower --learning_rate, a longer warm-up."
            )
        self._window_skipped += 1
        self._session_skipped += 1
        # Optimizers pass over a parameter without a gradient: no decay, and their state stays as it is.
        model.zero_grad(set_to_none=True)
        self._tr_loss.copy_(self._loss_before_step)
        self.step_skipped()
        if self.is_world_process_zero():
            logger.warning(f"{what} The step is left out; {self.skipped_steps:,} so far.")

    def _way_back(self) -> str:
        last = last_whole_checkpoint(self.args.output_dir)
        if last is None:
            return "There is no checkpoint yet."
        return f"The last checkpoint, from before it, is {last}."

    def _correct_mean(self, logs: dict[str, float]) -> None:
        made = self._window_steps - self._window_skipped
        if self._window_skipped and made:
            logs["loss"] *= self._window_steps / made
        elif self._window_skipped:
            del logs["loss"]
        self._window_skipped = 0
        if self.skipped_steps:
            logs["skipped_steps"] = self.skipped_steps

    def _correct_totals(self, logs: dict[str, float]) -> None:
        """The numbers at the end are of this call of `train`. transformers 5.17 counts the steps of the whole run,
        and all versions those that were skipped. In place: `train` returns the same dict."""
        steps = self._session_made + self._session_skipped
        logs["train_loss"] = self._total_loss_scalar / max(self._session_made, 1)
        if seconds := logs["train_runtime"]:
            samples = steps * self.get_total_train_batch_size(self.args)
            logs["train_samples_per_second"] = round(samples / seconds, 3)
            logs["train_steps_per_second"] = round(steps / seconds, 3)

    def _check_weights(self) -> None:
        """A finite gradient can still make a weight overflow. No checkpoint is written of such a model."""
        parameters = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        local = {name: p.to_local() if isinstance(p, DTensor) else p for name, p in parameters.items()}
        local = {name: p for name, p in local.items() if p.numel() and p.is_floating_point()}
        largest = torch.nn.utils.get_total_norm(local.values(), norm_type=math.inf)
        finite = largest.isfinite().to(self.args.device, torch.float32).reshape(1)
        if gather(finite).min() == 1:
            return
        bad = [name for name, parameter in local.items() if not parameter.isfinite().all()]
        named = ", ".join(bad[:4]) + (" and more" if len(bad) > 4 else "") or "those of another process"
        raise NonFiniteError(
            f"After step {self.state.global_step:,} weights are NaN or infinite: {named}. "
            f"The checkpoint is not written. {self._way_back()} Ways out: a lower --learning_rate, a longer warm-up, "
            "or a number format with a wider range."
        )
