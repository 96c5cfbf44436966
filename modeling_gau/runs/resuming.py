# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which checkpoint a run resumes from, and what an earlier run left in its output directory."""

import json
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import (
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import CONFIG_NAME, logging

from .checkpoints import check_whole, checkpoint_folders, find_whole_checkpoint, remove_all_checkpoints


logger = logging.get_logger(__name__)


def read_run_state(checkpoint: str) -> dict[str, Any]:
    """The state of the run that the first process kept in a checkpoint; empty where there is none."""
    path = Path(checkpoint) / "run_state_0.json"
    return json.loads(path.read_text(encoding="utf-8"))["state"] if path.is_file() else {}


def find_checkpoint(args: TrainingArguments) -> str | None:
    """The checkpoint to resume from, or None for a new run. Touches nothing; says which checkpoints it passed over.

    `args.resume_from_checkpoint` is a directory that the Trainer saved, `last` (also `true`) for the newest whole one
    in `args.output_dir`, or `auto`: that one, or a new run where there is none, so that a job can be started again by
    the command that started it.

    Raises:
        ValueError: there is no such checkpoint, or it is not whole; or the run is new, `args.output_dir` holds an
            earlier one, and `args.overwrite_output_dir` does not allow to replace it.
    """
    output_dir, wanted = Path(args.output_dir), args.resume_from_checkpoint
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"--output_dir {output_dir} is a file. Name a directory, new or old.")
    if wanted is None or str(wanted).lower() == "false":
        last = get_last_checkpoint(output_dir) if output_dir.is_dir() else None
        _check_new_run(output_dir, last, args.overwrite_output_dir)
        return None
    if args.overwrite_output_dir:
        raise ValueError("--resume_from_checkpoint continues a run and --overwrite_output_dir deletes it: keep one.")
    if str(wanted).lower() == "auto" and not (output_dir.is_dir() and checkpoint_folders(output_dir)):
        _check_new_run(output_dir, None, args.overwrite_output_dir)
        return None
    if str(wanted).lower() in ("last", "true", "auto"):
        return _last_whole_checkpoint(args, may_begin=str(wanted).lower() == "auto")
    if not (Path(wanted) / TRAINER_STATE_NAME).is_file():
        raise ValueError(
            f"--resume_from_checkpoint {wanted} is not a checkpoint of the Trainer (it has no {TRAINER_STATE_NAME}). "
            "Give a checkpoint-* folder, or `last`; a finished model is continued with --model_name_or_path."
        )
    check_whole(wanted)
    return str(wanted)


def _last_whole_checkpoint(args: TrainingArguments, may_begin: bool) -> str | None:
    output_dir = Path(args.output_dir)
    # One process reads what there is whole, and all go on from what it chose.
    chosen = [find_whole_checkpoint(output_dir)] if args.process_index == 0 else [None]
    path, skipped = broadcast_object_list(chosen)[0]
    reasons = [f"{broken.name} ({reason})" for broken, reason in skipped]
    if args.should_log:
        for reason in reasons:
            print(f"Not resumed from: {reason}.")
        print(f"Resuming from {path}." if path else f"Nothing to resume from in {output_dir}.")
    if path is None and not may_begin:
        missing = f"no whole checkpoint: {'; '.join(reasons)}" if reasons else "no checkpoint-* folder"
        raise ValueError(
            f"--resume_from_checkpoint {args.resume_from_checkpoint}: --output_dir {output_dir} has {missing}. Begin "
            "anew "
            "without --resume_from_checkpoint" + (", with --overwrite_output_dir." if reasons else ".")
        )
    return path and str(path)


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
        for path in remove_all_checkpoints(args.output_dir) if args.should_save else []:
            print(f"Deleted {path} of an earlier run.")
