# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What both scripts do around `trainer.train`: the record of the run, a signal that stops it, the end of processes."""

import contextlib
import sys

import torch
from transformers.trainer_utils import TrainOutput

from .checkpoints import remove_checkpoints
from .run_record import RunRecord
from .signals import TerminationCallback
from .trainer import RunTrainer


def train(
    trainer: RunTrainer, record: RunRecord, termination: TerminationCallback, checkpoint: str | None
) -> TrainOutput:
    """Trains to the end. A signal ends the process here, after a checkpoint, with the exit code of the signal.

    Args:
        record: written when training begins and when it ends, also by an exception.
        termination: one of the callbacks of `trainer`.
        checkpoint: to resume from.
    """
    status = "interrupted"
    if trainer.args.overwrite_output_dir:
        remove_checkpoints(trainer.args)
    if trainer.args.should_save:
        record.write(status="running")
    try:
        trained = trainer.train(resume_from_checkpoint=checkpoint)
        status = "trained" if termination.received is None else f"stopped by {termination.received.name}"
    finally:
        termination.restore_handlers()
        if trainer.args.should_save:
            # The exception that is on its way may be a full disk.
            with contextlib.suppress(OSError) if status == "interrupted" else contextlib.nullcontext():
                record.write(status=status, step=trainer.state.global_step)
    if termination.received is not None:
        if trainer.args.should_log:
            print(f"Stopped by {termination.received.name}. Continue with --resume_from_checkpoint last.")
        end(trainer)
        sys.exit(termination.exit_code())
    return trained


def end(trainer: RunTrainer) -> None:
    """Ends the run in all processes at once. A process that leaves its group to Python's exit can abort there."""
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    end_processes()


def end_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
