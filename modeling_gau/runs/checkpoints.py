# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which checkpoints are whole, which one a run resumes from, and how they are written and deleted.

The Trainer saves a series of files; a kill or a full disk in between leaves a directory that only looks like a
checkpoint. Here, the last file written is a manifest, `checkpoint.json`, with size and digest of every other file: a
checkpoint is *whole* when its manifest is there and agrees with the files.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME, logging

from ..configuration_gau import GAUError
from .state_files import content_of, read_json, read_own_json, write_json


logger = logging.get_logger(__name__)

MANIFEST_NAME = "checkpoint.json"
FORMAT = 1
# transformers' `get_last_checkpoint` and `sort_checkpoints` skip these names, and so do uploads, which leave out `_*`.
_DELETED = "_deleted-"
# A whole checkpoint whose step is being saved again: it stays good until the new one is whole.
_SUPERSEDED = "_superseded-"
# Files that only a resume needs. The others are the model, as `save_model` writes it.
STATE_PREFIXES = ("optimizer", "scheduler", "scaler", "rng_state", "run_state", TRAINER_STATE_NAME, MANIFEST_NAME)
# A PEFT adapter's checkpoint has one; that of the output directory says more.
CARD_NAME = "README.md"
# Entries of the Trainer's state that it computes with -> their types.
_TRAINER_STATE = {
    "epoch": (int, float, type(None)),
    "log_history": list,
    "stateful_callbacks": dict,
    "total_flos": (int, float),
    "num_input_tokens_seen": int,
    "best_metric": (int, float, type(None)),
    "best_global_step": (int, type(None)),
    "best_model_checkpoint": (str, type(None)),
}


# ---- Which checkpoints are whole ----


def find_whole_checkpoint(
    output_dir: str | os.PathLike, digests: bool = True
) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Finds the newest whole checkpoint among the `checkpoint-<step>` folders of `output_dir`. Changes nothing.

    Compares all sizes, but reads only the checkpoint it is about to choose, for its digests.

    Args:
        digests: whether to read digests. One process should; the others may find another checkpoint without them and
            should be given the first one's choice.

    Returns:
        The checkpoint, or None, and the newer ones it passed over, newest first, each with what is wrong with it.
    """
    passed_over = []
    for path in reversed(checkpoint_folders(output_dir)):
        problem = checkpoint_problem(path, digests)
        if problem is None:
            return path, passed_over
        passed_over.append((path, problem))
    return None, passed_over


def last_whole_checkpoint(output_dir: str | os.PathLike) -> Path | None:
    """Like [`find_whole_checkpoint`], but compares sizes only: quick enough for a message."""
    return find_whole_checkpoint(output_dir, digests=False)[0]


def check_whole(path: str | os.PathLike, digests: bool = True) -> None:
    """Raises ValueError with the reason if `path` is not a whole checkpoint. Reads all of it for the digests."""
    problem = checkpoint_problem(Path(path), digests)
    if problem is None and (Path(path) / TRAINER_STATE_NAME).is_file():
        problem = _trainer_state_problem(Path(path))
    if problem is not None:
        raise GAUError(
            f"{path} is not a whole checkpoint: {problem}. Give an earlier checkpoint-* folder, or take the "
            "newest whole one: --resume_from_checkpoint last, train(True) in Python."
        )


def checkpoint_problem(path: Path, digests: bool = True) -> str | None:
    """Says why `path` is not a whole checkpoint, or None if it is. Without `digests`, compares sizes only.

    A checkpoint of the plain Trainer has no manifest. It counts as whole if its last file, the Trainer's state, can be
    read.
    """
    if not path.is_dir():
        return "it is not a directory" if path.exists() else "there is no such directory"
    if not (path / MANIFEST_NAME).is_file():
        return _plain_checkpoint_problem(path, digests)
    manifest = read_json(path / MANIFEST_NAME)
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int or "files" not in manifest:
        return f"its {MANIFEST_NAME} cannot be read"
    if manifest["format"] > FORMAT:
        return f"its format {manifest['format']} is newer than the newest known ({FORMAT}): upgrade this package"
    files = manifest["files"]
    if files is None:
        return "saving it was interrupted"
    if manifest["format"] < 1 or not files or not _is_listing(files):
        return f"its {MANIFEST_NAME} is damaged"
    return _files_problem(path, files, digests)


def _is_listing(files: Any) -> bool:
    """Whether a manifest's list of files has the form that `close_checkpoint` gives it."""
    return isinstance(files, dict) and all(
        isinstance(listed, dict) and type(listed.get("bytes")) is int and isinstance(listed.get("blake2b"), str)
        for listed in files.values()
    )


def _files_problem(path: Path, files: Mapping[str, Mapping[str, Any]], digests: bool) -> str | None:
    for name, listed in files.items():
        if not os.path.isfile(path / name):  # unlike that of Path, never raises: a damaged name may be too long
            return f"{ascii(name)[1:-1]} is missing"
        size = (path / name).stat().st_size
        if size != listed["bytes"]:
            return f"{name} has {size:,} bytes of {listed['bytes']:,}"
    for name, listed in files.items() if digests else ():
        try:
            digest = _digest(path / name)
        except OSError as error:  # a worn disk
            return f"{name} cannot be read ({error.strerror})"
        if digest != listed["blake2b"]:
            return f"the digest of {name} differs from the one at saving: the file was changed or damaged"
    return None


def _plain_checkpoint_problem(path: Path, announce: bool) -> str | None:
    if not (path / TRAINER_STATE_NAME).is_file():
        return f"no {MANIFEST_NAME} and no {TRAINER_STATE_NAME}: saving it was interrupted"
    if _trainer_state_problem(path) is not None:
        return f"its {TRAINER_STATE_NAME} cannot be read, and it has no {MANIFEST_NAME}"
    if announce:
        logger.warning(
            f"{path} has no manifest ({MANIFEST_NAME}): the plain Trainer saved it, and its files cannot be checked."
        )
    return None


def _trainer_state_problem(path: Path) -> str | None:
    """Says why the Trainer could not take up its state in `path`, or None if it can."""
    state, problem = read_json(path / TRAINER_STATE_NAME), f"its {TRAINER_STATE_NAME} cannot be read"
    if not isinstance(state, dict) or type(state.get("global_step")) is not int or state["global_step"] < 0:
        return problem
    if unknown := sorted(state.keys() - vars(TrainerState()).keys()):
        return f"{problem}: it has the unknown entry {unknown[0]!a}"
    odd = [name for name, kinds in _TRAINER_STATE.items() if name in state and not isinstance(state[name], kinds)]
    odd = odd or [f"log_history[{i}]" for i, row in enumerate(state.get("log_history", ())) if type(row) is not dict]
    return f"{problem}: its {odd[0]} has another type" if odd else None


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def checkpoint_folders(output_dir: str | os.PathLike) -> list[Path]:
    """Lists the `checkpoint-<step>` folders, whole or not, by step; empty if `output_dir` is missing.

    A kill while a step is saved again leaves a `_superseded-checkpoint-<step>`, which comes before its new folder.
    """
    paths = _folders_named(output_dir, rf"({_SUPERSEDED})?{PREFIX_CHECKPOINT_DIR}-\d+")
    return sorted(paths, key=lambda path: (_step_of(path), not path.name.startswith(_SUPERSEDED)))


def remove_all_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """Deletes the checkpoints of an earlier run, whole or broken, and what kills left of others; returns their paths.

    Leaves alone a folder that only has the name of a checkpoint. One process should call it.
    """
    leftovers = _half_deleted(output_dir)
    for path in leftovers:
        shutil.rmtree(path)
    own = [
        path
        for path in checkpoint_folders(output_dir)
        if path.name.startswith(_SUPERSEDED) or (path / MANIFEST_NAME).exists() or (path / TRAINER_STATE_NAME).exists()
    ]
    for path in own:
        _delete_checkpoint(path)
    for path in _half_deleted(output_dir):  # raises the reason
        shutil.rmtree(path)
    return own + leftovers


def _half_deleted(output_dir: str | os.PathLike) -> list[Path]:
    return _folders_named(output_dir, rf"{_DELETED}({_SUPERSEDED})?{PREFIX_CHECKPOINT_DIR}-\d+")


def _folders_named(output_dir: str | os.PathLike, pattern: str) -> list[Path]:
    if not Path(output_dir).is_dir():
        return []
    return [path for path in Path(output_dir).iterdir() if re.fullmatch(pattern, path.name) and path.is_dir()]


# ---- Writing and deleting ----


def open_checkpoint(folder: Path, step: int) -> None:
    """Makes `folder` for a new save. A broken one there goes; a whole one steps aside until the new one is whole.

    Marks it as unfinished: killed just before the end, it would otherwise pass for one of the plain Trainer.
    """
    if folder.exists() and checkpoint_problem(folder, digests=False) is not None:
        _delete_checkpoint(folder)
    elif folder.exists():
        aside = folder.with_name(_SUPERSEDED + folder.name)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
    folder.mkdir(parents=True)
    write_json(folder / MANIFEST_NAME, {"format": FORMAT, "step": step, "files": None})
    _to_disk(folder)


def close_checkpoint(folder: Path, step: int) -> None:
    """Writes the manifest: the checkpoint is whole."""
    paths = sorted(path for path in folder.rglob("*") if path.name != MANIFEST_NAME)
    for path in [*paths, folder, folder.parent]:
        _to_disk(path)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "blake2b": _digest(path)}
        for path in paths
        if path.is_file()
    }
    write_json(folder / MANIFEST_NAME, {"format": FORMAT, "step": step, "files": files})
    _to_disk(folder)


def delete_old_checkpoints(run_dir: Path, newest: Path, limit: int | None, in_use: Collection[Path]) -> None:
    """Deletes checkpoints beyond `limit`, but never `newest` nor one `in_use`, and cleans up after earlier kills."""
    try:
        _settle(run_dir)
    except OSError as error:
        logger.warning(f"Leftovers of an interrupted run in {run_dir} could not be removed: {error}")
    if limit is None or limit <= 0:
        return
    paths = checkpoint_folders(run_dir)
    # Broken ones first, then those beyond this step: a run that was resumed from an earlier one left them behind.
    others = sorted(
        (path for path in paths if path != newest and path not in in_use),
        key=lambda p: (checkpoint_problem(p, digests=False) is None, _step_of(p) <= _step_of(newest), _step_of(p)),
    )
    for path in others[: max(0, len(paths) - limit)]:
        try:
            _delete_checkpoint(path)
        except OSError as error:
            logger.warning(f"{path} is over --save_total_limit and could not be deleted: {error}")


def _delete_checkpoint(path: Path) -> None:
    """Deletes a directory under another name, so that a kill half-way leaves nothing that looks like a checkpoint."""
    doomed = path.with_name(_DELETED + path.name)
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _settle(run_dir: Path) -> None:
    """Finishes what a kill left half done: deletions, and saves of a step that had been saved before."""
    for leftover in _half_deleted(run_dir):
        shutil.rmtree(leftover, ignore_errors=True)
    for aside in run_dir.glob(f"{_SUPERSEDED}*"):
        heir = run_dir / aside.name.removeprefix(_SUPERSEDED)
        if checkpoint_problem(heir, digests=False) is None:
            _delete_checkpoint(aside)
            continue
        shutil.rmtree(heir, ignore_errors=True)
        os.replace(aside, heir)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names in a directory, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse this for a directory, and keep its names by other means.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


# ---- Resuming ----


def read_run_state(checkpoint: str | os.PathLike, process_index: int = 0) -> dict[str, Any]:
    """Reads what a process knew of the run when it saved a checkpoint; empty if that was the plain Trainer."""
    path = Path(checkpoint) / f"run_state_{process_index}.json"
    content = read_own_json(path)
    with content_of(path):
        return dict(content or {})


def find_checkpoint(args: TrainingArguments) -> str | None:
    """Returns the checkpoint to resume from, or None for a new run. Changes nothing; prints what it passes over.

    `args.resume_from_checkpoint` is a directory that the Trainer saved, `last` (or `true`) for the newest whole one in
    `args.output_dir`, or `auto`: that one or, if there is none, a new run, so that one command starts a job and starts
    it again.

    Raises:
        ValueError: there is no such checkpoint, or it is not whole; or the run is new, `args.output_dir` holds an
            earlier one, and `args.overwrite_output_dir` is off.
    """
    output_dir, wanted = Path(args.output_dir), args.resume_from_checkpoint
    keyword = "false" if wanted is None else str(wanted).lower()
    if output_dir.exists() and not output_dir.is_dir():
        raise GAUError(f"--output_dir {output_dir} is a file. Name a directory, new or old.")
    if args.overwrite_output_dir and keyword != "false":
        raise GAUError("--resume_from_checkpoint continues a run and --overwrite_output_dir deletes it: keep one.")
    checkpoints = checkpoint_folders(output_dir)
    if keyword == "false" or (keyword == "auto" and not checkpoints):
        # Other files in the directory (notes, a clone of a Hub repository) do no harm.
        if not args.overwrite_output_dir and (checkpoints or (output_dir / CONFIG_NAME).is_file()):
            raise GAUError(
                f"--output_dir {output_dir} holds an earlier run. Take another directory, continue that run with "
                "--resume_from_checkpoint last, or replace it with --overwrite_output_dir."
            )
        return None
    if keyword in ("last", "true", "auto"):
        return _choose_last_checkpoint(args, may_begin=keyword == "auto")
    if not (Path(wanted) / TRAINER_STATE_NAME).is_file():
        raise GAUError(
            f"--resume_from_checkpoint {wanted} is not a checkpoint of the Trainer (it has no {TRAINER_STATE_NAME}). "
            "Give a checkpoint-* folder, or `last`; a finished model is continued with --model_name_or_path."
        )
    check_whole(wanted)
    return str(wanted)


def _choose_last_checkpoint(args: TrainingArguments, may_begin: bool) -> str | None:
    output_dir = Path(args.output_dir)
    # One process reads the checkpoints, and all continue from its choice.
    chosen = [find_whole_checkpoint(output_dir)] if args.process_index == 0 else [None]
    path, skipped = broadcast_object_list(chosen)[0]
    reasons = [f"{broken.name} ({reason})" for broken, reason in skipped]
    if args.should_log:
        for reason in reasons:
            print(f"Not resumed from: {reason}.")
        print(f"Resuming from {path}." if path else f"Nothing to resume from in {output_dir}.")
    if path is None and not may_begin:
        missing = f"no whole checkpoint: {'; '.join(reasons)}" if reasons else "no checkpoint-* folder"
        raise GAUError(
            f"--resume_from_checkpoint {args.resume_from_checkpoint}: --output_dir {output_dir} has {missing}. Start "
            f"again without --resume_from_checkpoint{', with --overwrite_output_dir' if reasons else ''}."
        )
    return path and str(path)


def remove_checkpoints(args: TrainingArguments) -> None:
    """Deletes the `checkpoint-*` folders and the results of an earlier run.

    A resume would take them for the newest of this run; so would `save_total_limit`, and delete this run's. The
    Trainer would add to the results.
    """
    with args.main_process_first(desc="removal of earlier checkpoints"):
        for path in remove_all_checkpoints(args.output_dir) if args.should_save else []:
            print(f"Deleted {path} of an earlier run.")
        for split in ("all", "train", "eval", "test") if args.should_save else ():
            (Path(args.output_dir) / f"{split}_results.json").unlink(missing_ok=True)
