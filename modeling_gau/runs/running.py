# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From the first step of a run to its end, whatever comes between: what both scripts do around `trainer.train`."""

import contextlib
import sys

import torch
from transformers.trainer_utils import TrainOutput

from .checkpoints import CheckpointedTrainer
from .faults import TerminationCallback
from .resuming import remove_checkpoints
from .run_record import RunRecord


def train(
    trainer: CheckpointedTrainer, record: RunRecord, termination: TerminationCallback, checkpoint: str | None
) -> TrainOutput:
    """Trains to the end. Told to stop, the process ends here, after a checkpoint, with the exit code of the signal.

    Args:
        record: written when the training begins and when it ends, also by an exception.
        termination: among the callbacks of `trainer`.
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
            # A disk that is full is what the exception on its way may be about.
            with contextlib.suppress(OSError) if status == "interrupted" else contextlib.nullcontext():
                record.write(status=status, step=trainer.state.global_step)
    if termination.received is not None:
        if trainer.args.should_log:
            print(f"Stopped by {termination.received.name}. Go on with --resume_from_checkpoint last.")
        end(trainer)
        sys.exit(termination.exit_code())
    return trained


def end(trainer: CheckpointedTrainer) -> None:
    """Ends the run in all processes at once. A process that leaves its group to the end of Python can abort there."""
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    end_processes()


def end_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
