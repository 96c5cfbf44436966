# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""SIGTERM, SIGUSR1 and Ctrl-C: a run finishes its step, saves a checkpoint and stops."""

import contextlib
import os
import signal
import threading
import time

import torch
from accelerate.utils import gather
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from ..configuration_gau import GAUError


logger = logging.get_logger(__name__)

# Ctrl-C is SIGINT. Slurm sends SIGUSR1 if asked to announce the end of a job (`--signal=USR1@120`); Windows lacks it.
# Launchers decide what reaches the processes:
# - torchrun, and `accelerate launch` with several processes, pass SIGTERM on and exit with 1 themselves.
# - SIGUSR1 kills torchrun, and the processes with it, unless TORCHELASTIC_SIGNALS_TO_HANDLE names it in the
#   environment: SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1.
# - `accelerate launch` with one process passes nothing on: signal the process itself, or start it with python.
TERMINATION_SIGNALS = tuple(one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGUSR1"))
# torchrun passes on a Ctrl-C that its processes may have got from the terminal already: that is not a second one.
_SAME_CTRL_C = 1.0  # seconds


class TerminationCallback(TrainerCallback):
    """On SIGTERM, SIGUSR1 or Ctrl-C, the run finishes its step, saves a checkpoint and stops.

    All processes stop at the same step. A second Ctrl-C ends the process at once.

    transformers' own `enable_jit_checkpoint` saves in the middle of a step, after the next batches have been read, and
    each process by itself: a run cannot resume from that exactly. The two exclude each other.

    Add it as the last callback, so that nothing delays the save. An evaluation due at that step is left out;
    [`RunTrainer`] makes it when the run resumes.

    A signal during an evaluation or a save waits for the end of that and of the next step, because processes agree on
    when to stop once a step: give Slurm's `--signal` more notice than these take. A signal after the last step stops
    the run if there is a checkpoint of that step: resumed, the run only evaluates and writes its results. Without such
    a checkpoint, the signal is ignored.

    After training, a script does this:

    ```python
    try:
        trainer.train()
    finally:
        termination.restore_handlers()
    if termination.received:
        sys.exit(termination.exit_code())
    ```

    Attributes:
        received: the signal that stopped the run, the same on all processes; None if there was none.
        evaluation_due: whether the evaluation of this step was left out, the same on all processes.
    """

    evaluation_due: bool = False

    def __init__(self, signals: tuple[signal.Signals, ...] = TERMINATION_SIGNALS):
        self.signals = signals
        self.received: signal.Signals | None = None
        self._arrived: signal.Signals | None = None
        self._arrived_at, self._process = 0.0, 0
        self._saved: int | None = None  # step of the newest checkpoint
        self._handlers: dict[signal.Signals, object] = {}
        self._name = ""

    def exit_code(self) -> int:
        """128 + the number of the signal, as if it had killed the process: 143 for SIGTERM."""
        if self.received is None:
            raise GAUError("No signal was received, so the exit code is not that of a signal.")
        return 128 + self.received

    def restore_handlers(self) -> None:
        """Restores the signal handlers. Called when training ends; after an exception, the caller must do it."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_init_end(self, args, state, control, **kwargs):
        if args.enable_jit_checkpoint:
            raise GAUError("--enable_jit_checkpoint is not needed: this run saves on SIGTERM anyway. Leave it out.")

    def on_train_begin(self, args, state, control, **kwargs):
        self._name = f"Process {args.process_index}: " if args.world_size > 1 else ""
        self.received = self._arrived = None
        self.evaluation_due = False
        self._saved = state.global_step  # a run resumes from a checkpoint of this step
        if threading.current_thread() is not threading.main_thread():
            logger.warning("Training outside the main thread: SIGTERM ends it without a checkpoint.")
        elif not self._handlers:
            self._process = os.getpid()
            # nohup and shells that start a run in the background ask to ignore some.
            wanted = [one for one in self.signals if signal.getsignal(one) is not signal.SIG_IGN]
            self._handlers = {one: signal.signal(one, self._on_signal) for one in wanted}

    def on_save(self, args, state, control, **kwargs):
        self._saved = state.global_step

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_handlers()
        self._agree(args)
        if self.received is not None and self._saved != state.global_step:
            logger.warning(f"{self.received.name} came after the last step, which has no checkpoint: ignored.")
            self.received = None

    def _on_signal(self, number: int, frame) -> None:
        if os.getpid() != self._process:
            # A worker of the data loader, which has this handler by its fork. A terminal sends Ctrl-C to all of them,
            # and the run still needs it; every other signal does to it what it would do without the handler.
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        name, now = signal.Signals(number).name, time.monotonic()
        if self._arrived is None:
            self._arrived, self._arrived_at = signal.Signals(number), now
            text = f"{self._name}{name}: the run saves a checkpoint and stops after this step."
        elif number == self._arrived == signal.SIGINT and now - self._arrived_at > _SAME_CTRL_C:
            # As the signal itself would, without the traceback of a KeyboardInterrupt.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
            return
        else:
            text = f"{self._name}{name}: ignored, the run is already about to save and stop."
        # Not `print`: a handler may interrupt one.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        # Not at the end of the step: the check for NaN has just waited for the device here.
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
        """Notes a signal that any process received. Collective."""
        if args.world_size == 1:
            self.received = self.received or self._arrived
        else:
            number = gather(torch.tensor([int(self._arrived or 0)], device=args.device)).max().item()
            self.received = self.received or (signal.Signals(number) if number else None)

    def on_epoch_end(self, args, state, control, **kwargs):
        # The Trainer also ends an epoch that it stops in the middle. The checkpoint is written already.
        if self.received is not None:
            control.should_save = control.should_evaluate = False
        return control


def _is_evaluated_by_epoch(args, state) -> bool:
    """Whether the Trainer would evaluate at the end of the epoch that ends with this step."""
    if args.eval_strategy != IntervalStrategy.EPOCH or state.epoch < args.eval_delay:
        return False
    return state.epoch % 1 == 0 or state.global_step >= state.max_steps
