# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or say why not, of safetensors and JSON only.

A save of the Trainer is a row of files; a kill or a full disk in between leaves a directory that looks like a
checkpoint and is none. Here the last file written is a manifest, `checkpoint.json`, with the size and the digest of
all the others: a checkpoint is *whole* when its manifest is there and agrees with them.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from huggingface_hub import HfApi
from safetensors import SafetensorError
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, IntervalStrategy, SaveStrategy
from transformers.utils import PushInProgress, is_sagemaker_mp_enabled, is_torch_xla_available, logging

from .optimizer_state import load_optimizer_state as load_sharded_optimizer_state
from .optimizer_state import save_optimizer_state as save_sharded_optimizer_state
from .sharding import ShardedTrainer
from .state_files import (
    for_json,
    load_optimizer_state,
    load_state,
    random_state,
    save_state,
    set_random_state,
    state_from_json,
    state_to_json,
    without_callables,
    write_json,
)


logger = logging.get_logger(__name__)

MANIFEST_NAME = "checkpoint.json"
ARGUMENTS_NAME = "training_args.json"
_SHARDS = "optimizer"  # directory of the optimizer's state under FSDP
FORMAT = 1
# `get_last_checkpoint` and `sort_checkpoints` pass over these names, and so do uploads, which leave out `_*`.
_DELETED = "_deleted-"
# A whole checkpoint that is being saved again: still good while the new one is not.
_SUPERSEDED = "_superseded-"
# What only a resume needs; the other files of a checkpoint are the model, as `save_model` writes it.
_STATE_PREFIXES = ("optimizer", "scheduler", "scaler", "rng_state", "run_state", TRAINER_STATE_NAME, MANIFEST_NAME)
# Of the checkpoint of a PEFT adapter; the one in the output directory says more.
_CARD_NAME = "README.md"
# Settings of an optimizer's parameter groups that come from arguments, but for `lr`, which is the schedule's. Not all
# that a group holds: some optimizers count their steps there.
_SETTINGS = ("betas", "eps", "weight_decay", "initial_lr")


class CheckpointError(RuntimeError):
    """A checkpoint or the final model could not be written. The message names the last whole checkpoint."""


# ---- Which checkpoints are whole ----


def find_whole_checkpoint(
    output_dir: str | os.PathLike, digests: bool = True
) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest whole checkpoint among the `checkpoint-<step>` folders of `output_dir`. Touches nothing.

    Sizes are compared first, and the digests only of the one that is about to be chosen: it is read once.

    Args:
        digests: whether to read the files for their digests. Enough for one process to do so; those that do not may
            find another checkpoint, and should be told which one it is.

    Returns:
        The checkpoint, or None where there is none, and the newer ones that were passed over, the newest first, each
        with what is wrong with it.
    """
    passed_over = []
    for path in reversed(checkpoint_folders(output_dir)):
        problem = checkpoint_problem(path, digests)
        if problem is None:
            return path, passed_over
        passed_over.append((path, problem))
    return None, passed_over


def last_whole_checkpoint(output_dir: str | os.PathLike) -> Path | None:
    """As [`find_whole_checkpoint`] by sizes alone: quick enough for a message."""
    paths = reversed(checkpoint_folders(output_dir))
    return next((path for path in paths if checkpoint_problem(path, digests=False) is None), None)


def check_whole(path: str | os.PathLike) -> None:
    """Raises ValueError with the reason where `path` is not a whole checkpoint. Reads all of it for the digests."""
    problem = checkpoint_problem(Path(path))
    if problem is not None:
        raise ValueError(
            f"{path} is not a whole checkpoint: {problem}. Give an earlier checkpoint-* folder, or `last` for the "
            "newest whole one."
        )


def checkpoint_problem(path: Path, digests: bool = True) -> str | None:
    """What keeps `path` from being a whole checkpoint, or None. Without `digests`, sizes alone are compared.

    A checkpoint of the plain Trainer has no manifest. It counts as whole when its last file, the state of the
    Trainer, can be read.
    """
    if not path.is_dir():
        return "it is not a directory" if path.exists() else "there is no such directory"
    if not (path / MANIFEST_NAME).is_file():
        return _plain_checkpoint_problem(path, digests)
    manifest = _read_json(path / MANIFEST_NAME)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int) or "files" not in manifest:
        return f"its {MANIFEST_NAME} cannot be read"
    if manifest["format"] > FORMAT:
        return f"its format {manifest['format']} is newer than the one known here ({FORMAT}): upgrade this package"
    if manifest["files"] is None:
        return "saving it was interrupted"
    return _files_problem(path, manifest["files"], digests)


def _files_problem(path: Path, files: Mapping[str, Mapping[str, Any]], digests: bool) -> str | None:
    for name, listed in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        size = (path / name).stat().st_size
        if size != listed["bytes"]:
            return f"{name} has {size:,} bytes of {listed['bytes']:,}"
    for name, listed in files.items() if digests else ():
        if _digest(path / name) != listed["blake2b"]:
            return f"the digest of {name} differs from the one at saving: the file was changed or damaged"
    return None


def _plain_checkpoint_problem(path: Path, announce: bool) -> str | None:
    if not (path / TRAINER_STATE_NAME).is_file():
        return f"no {MANIFEST_NAME} and no {TRAINER_STATE_NAME}: saving it was interrupted"
    state = _read_json(path / TRAINER_STATE_NAME)
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return f"its {TRAINER_STATE_NAME} cannot be read, and it has no {MANIFEST_NAME}"
    if announce:
        logger.warning(
            f"{path} has no manifest ({MANIFEST_NAME}), as when the plain Trainer saved it: whether its files are "
            "whole cannot be checked."
        )
    return None


def _read_json(path: Path) -> Any | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def checkpoint_folders(output_dir: str | os.PathLike) -> list[Path]:
    """All `checkpoint-<step>` folders, whole or not, the lowest step first; empty where there is no `output_dir`.

    Among them is a `_superseded-checkpoint-<step>`, which a kill leaves behind while a step is saved again. It stands
    before its heir.
    """
    paths = _folders_named(output_dir, rf"({_SUPERSEDED})?{PREFIX_CHECKPOINT_DIR}-\d+")
    return sorted(paths, key=lambda path: (_step_of(path), not path.name.startswith(_SUPERSEDED)))


def remove_all_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """Deletes the checkpoints of an earlier run, whole or broken, and what kills left of others.

    A folder that has no more of a checkpoint than its name is left alone.

    Returns:
        What was deleted. One process should call it.
    """
    marks = (MANIFEST_NAME, TRAINER_STATE_NAME)
    own = [
        path
        for path in checkpoint_folders(output_dir)
        if path.name.startswith(_SUPERSEDED) or any((path / mark).is_file() for mark in marks)
    ]
    for path in own:
        _delete_checkpoint(path)
    leftovers = _folders_named(output_dir, rf"{_DELETED}({_SUPERSEDED})?{PREFIX_CHECKPOINT_DIR}-\d+")
    for path in leftovers:
        shutil.rmtree(path)
    return own + [path for path in leftovers if path.with_name(path.name.removeprefix(_DELETED)) not in own]


def _folders_named(output_dir: str | os.PathLike, pattern: str) -> list[Path]:
    if not Path(output_dir).is_dir():
        return []
    return [path for path in Path(output_dir).iterdir() if re.fullmatch(pattern, path.name) and path.is_dir()]


# ---- Files ----


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names in a directory, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do this for a directory, and keep its names by other means.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


def _write_manifest(folder: Path, step: int) -> None:
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


def _delete_checkpoint(path: Path) -> None:
    """Deletes a directory under another name: killed half-way, it leaves nothing that looks like a checkpoint."""
    doomed = path.with_name(_DELETED + path.name)
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _clear_way(folder: Path) -> None:
    """Makes room for a new save: what is broken goes, what is whole steps aside until the new one is whole."""
    if not folder.exists():
        return
    if checkpoint_problem(folder, digests=False) is not None:
        return _delete_checkpoint(folder)
    aside = folder.with_name(_SUPERSEDED + folder.name)
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)


def _settle(run_dir: Path) -> None:
    """Ends what a kill left half done: deletions, and saves of a step that had been saved before."""
    for leftover in run_dir.glob(f"{_DELETED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for aside in run_dir.glob(f"{_SUPERSEDED}*"):
        heir = run_dir / aside.name.removeprefix(_SUPERSEDED)
        if checkpoint_problem(heir, digests=False) is None:
            _delete_checkpoint(aside)
            continue
        shutil.rmtree(heir, ignore_errors=True)
        os.replace(aside, heir)


def _is_write_failure(error: BaseException | None) -> bool:
    # Tokenizers raise a bare Exception and torch a RuntimeError where a file cannot be written.
    said = ("(os error ", "PytorchStreamWriter", "inline_container", "iostream error")
    return isinstance(error, (OSError, SafetensorError)) or (
        isinstance(error, Exception) and any(words in str(error) for words in said)
    )


# ---- The Trainer ----


def training_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The arguments of a run for JSON, without the tokens of any service."""
    return for_json({key: value for key, value in args.to_dict().items() if not key.endswith("_token")})


class StoppingCallback(TrainerCallback):
    """A callback that may stop a run without the evaluation that is due at this step.

    Attributes:
        evaluation_due: says so to a [`CheckpointedTrainer`], the same on all processes. The run that is resumed from
            the checkpoint of this step begins with the evaluation.
    """

    evaluation_due: bool = False


class CheckpointedTrainer(ShardedTrainer):
    """[`Trainer`] whose checkpoints are whole or say why not, hold no pickled object, and carry state of the run.

    - A checkpoint counts from the moment its manifest is there, on behalf of all processes. Only then may
      `save_total_limit` delete older ones.
    - Optimizer, scheduler, gradient scaler and random states are safetensors and JSON; so are the arguments, in place
      of the Trainer's `training_args.bin`. Under FSDP every process writes its shards of the optimizer's state, as
      safetensors and JSON too (`optimizer_state.py`). DeepSpeed, XLA and SageMaker keep the Trainer's own formats for
      the optimizer and the scheduler; the manifest covers them all the same.
    - A checkpoint of the plain Trainer is resumed from as ever, through its own loading with `weights_only`.
    - A full disk, or any other failure to write, is a [`CheckpointError`] that names the last whole checkpoint.
    - A resumed run has the learning rate, weight decay, betas and so on of its own arguments, and is bit-equal to the
      undisturbed one where these are the same. `reduce_lr_on_plateau` goes on with the learning rate it had.
    - An evaluation that a [`StoppingCallback`] left out is made when the run is resumed, before its first step.
    """

    resumed_world_size: int | None = None
    _resumed_log_window: dict[str, float] | None = None
    # An evaluation of the step resumed from, which the run before did not come to.
    _evaluation_due: bool = False
    _hub: HfApi | None = None
    _uploads: tuple[tuple[Path, Future], ...] = ()

    # ---- For subclasses ----

    def run_state(self) -> dict[str, Any]:
        """What this process has to know to go on from here, for JSON; saved with every checkpoint.

        All processes call it at the same time: it may ask the others.
        """
        return {}

    def load_run_state(self, state: dict[str, Any] | None) -> None:
        """Takes back what [`run_state`] returned, before the first batch is asked for.

        Called on every resume. `self.state.global_step` is the step of the checkpoint by then, and
        `self.resumed_world_size` the number of processes that wrote it.

        Args:
            state: None where the checkpoint has none for this process: it was saved by fewer processes or by the
                plain Trainer.
        """

    # ---- Saving ----

    def _save_checkpoint(self, model, trial):
        run_dir = Path(self._get_output_dir(trial=trial))
        folder = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        run_state = self.run_state()
        with _Stage(self, folder):
            self._open_checkpoint(folder)
        # A process that fails amid collective operations of the others cannot tell them: it just stops.
        tells_others = self._has_own_formats and not self.state.best_global_step
        with _Stage(self, folder, tells_others):
            # The Trainer deletes older checkpoints at the end of this call, when the new one is not whole yet.
            with replaced(self.args, save_total_limit=None):
                super()._save_checkpoint(model, trial)
            self._save_run_state(folder, run_state)
        with _Stage(self, folder):
            self._close_checkpoint(folder)
        if self.args.should_save:
            self._delete_old_checkpoints(run_dir, folder)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _open_checkpoint(self, folder: Path) -> None:
        if not self.args.should_save:
            return
        _clear_way(folder)
        folder.mkdir(parents=True)
        # Without it, a save that is cut off just before the end looks like a whole one of the plain Trainer.
        write_json(folder / MANIFEST_NAME, {"format": FORMAT, "step": self.state.global_step, "files": None})
        _to_disk(folder)

    def _close_checkpoint(self, folder: Path) -> None:
        if self.args.should_save:
            # Anew: the first were written while the limit was lifted.
            write_json(folder / ARGUMENTS_NAME, training_arguments(self.args))
            _write_manifest(folder, self.state.global_step)

    def _save_run_state(self, folder: Path, state: dict[str, Any]) -> None:
        if not self.args.save_only_model:
            folder.mkdir(parents=True, exist_ok=True)
            # The Trainer forgets the losses since the last line of the log.
            window = {"since": self._globalstep_last_logged, "loss": state_to_json(self._tr_loss.item(), "loss", {})}
            content = {"world_size": self.args.world_size, "log_window": window, "state": state}
            stopping = [one for one in self.callback_handler.callbacks if isinstance(one, StoppingCallback)]
            content["evaluation_due"] = any(one.evaluation_due for one in stopping)
            write_json(folder / f"run_state_{self.args.process_index}.json", content)

    def _delete_old_checkpoints(self, run_dir: Path, newest: Path) -> None:
        try:
            _settle(run_dir)
        except OSError as error:
            logger.warning(f"Leftovers of an interrupted run in {run_dir} could not be removed: {error}")
        limit = self.args.save_total_limit
        if limit is None or limit <= 0:
            return
        protected = {newest}
        if self.state.best_model_checkpoint is not None:
            protected.add(run_dir / Path(self.state.best_model_checkpoint).name)
        protected.update(path for path, upload in self._uploads if not upload.done())
        paths = checkpoint_folders(run_dir)
        # Broken ones first; then those beyond this step, which a run left behind that was resumed from before them.
        others = sorted(
            (path for path in paths if path not in protected),
            key=lambda p: (checkpoint_problem(p, digests=False) is None, _step_of(p) <= _step_of(newest), _step_of(p)),
        )
        for path in others[: max(0, len(paths) - limit)]:
            self._delete_old_checkpoint(path)

    def _delete_old_checkpoint(self, path: Path) -> None:
        try:
            _delete_checkpoint(path)
        except OSError as error:
            logger.warning(f"{path} is over --save_total_limit and could not be deleted: {error}")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        if _internal_call:
            return super().save_model(output_dir, _internal_call)
        with _Stage(self, Path(output_dir or self.args.output_dir), alone=True):
            super().save_model(output_dir, _internal_call=True)
        # Apart, since what fails here is a network and not a disk.
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None):
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            write_json(folder / ARGUMENTS_NAME, training_arguments(self.args))

    def _push_from_checkpoint(self, checkpoint_folder: str):
        """As the Trainer's, without the pickled arguments. Does nothing before the checkpoint is whole."""
        folder, output_dir = Path(checkpoint_folder), Path(self.args.output_dir)
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if checkpoint_problem(folder, digests=False) is not None or (busy and not self.args.hub_always_push):
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith((*_STATE_PREFIXES, _CARD_NAME)):
                shutil.copy(path, output_dir / path.name)
        jobs = [self._upload(output_dir, ignore_patterns=["_*", f"{PREFIX_CHECKPOINT_DIR}-*"])]
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last_only = self.args.hub_strategy == HubStrategy.CHECKPOINT
            jobs.append(self._upload(folder, path_in_repo="last-checkpoint" if last_only else folder.name))
            self._uploads = (*(pair for pair in self._uploads if not pair[1].done()), (folder, jobs[-1]))
        if busy:
            self.push_in_progress.jobs.extend(jobs)
        else:
            self.push_in_progress = PushInProgress(jobs)

    def _upload(self, folder: Path, **options):
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        when = f"step {self.state.global_step}" if by_steps else f"epoch {int(self.state.epoch)}"
        suffix = ", checkpoint" if "path_in_repo" in options else ""
        # One makes its uploads one after the other. Commits at the same time are refused by the Hub (412).
        self._hub = self._hub or HfApi(library_name="transformers")
        return self._hub.upload_folder(
            repo_id=self.hub_model_id,
            folder_path=str(folder),
            commit_message=f"Training in progress, {when}{suffix}",
            token=self.args.hub_token,
            revision=self.args.hub_revision,
            run_as_future=True,
            **options,
        )

    # ---- Formats ----

    @property
    def _has_own_formats(self) -> bool:
        foreign = self.is_deepspeed_enabled or self.is_fsdp_enabled
        return not (foreign or is_torch_xla_available() or is_sagemaker_mp_enabled())

    def _save_optimizer_and_scheduler(self, output_dir: str):
        if self.is_fsdp_enabled:
            save_sharded_optimizer_state(Path(output_dir) / _SHARDS, self.model, self.optimizer)
        elif not self._has_own_formats:
            return super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            save_state(Path(output_dir), "optimizer", self.optimizer.state_dict())
        if self.args.should_save:
            save_state(Path(output_dir), "scheduler", without_callables(self.lr_scheduler.state_dict()))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None):
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        with self._settings_kept(folder):
            if self.is_fsdp_enabled or (folder / _SHARDS).is_dir():
                # Shards load under any strategy, and under FSDP nothing else does.
                load_sharded_optimizer_state(folder / _SHARDS, self.model, self.optimizer)
                self.lr_scheduler.load_state_dict(load_state(folder, "scheduler"))
            elif (folder / "optimizer.json").is_file() and self._has_own_formats:
                load_optimizer_state(self.optimizer, load_state(folder, "optimizer"))
                self.lr_scheduler.load_state_dict(load_state(folder, "scheduler"))
            else:
                if not any(folder.glob("*optim*")) and not self.is_deepspeed_enabled:
                    logger.warning(
                        f"{folder} holds the model only: optimizer, schedule and random numbers start anew."
                    )
                super()._load_optimizer_and_scheduler(checkpoint)
        # The Trainer comes by here on every resume, before it asks for the first batch.
        self._load_run_state(folder)

    @contextmanager
    def _settings_kept(self, folder: Path) -> Iterator[None]:
        """What is loaded meanwhile changes no setting that follows from the arguments of this run.

        Nothing is different where the arguments are those of the run before: a schedule is a function of the step.
        """
        if self.is_deepspeed_enabled:  # has loaded the optimizer by now
            yield
            return
        names = {*_SETTINGS, *self._names_in_optim_args(folder)}
        fresh = [{k: v for k, v in group.items() if k in names} for group in self.optimizer.param_groups]
        schedule = self.lr_scheduler if isinstance(self.lr_scheduler, LambdaLR) else None
        bases = schedule and list(schedule.base_lrs)
        yield
        for group, settings in zip(self.optimizer.param_groups, fresh, strict=True):
            group.update(settings)
        if schedule is None:
            return
        schedule.base_lrs = bases
        schedule._last_lr = [
            base * factor(schedule.last_epoch) for base, factor in zip(bases, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, schedule._last_lr, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _names_in_optim_args(self, folder: Path) -> set[str]:
        """Settings that `--optim_args` of this run or of the one before names."""
        before = _read_json(folder / ARGUMENTS_NAME) or {}
        texts = (self.args.optim_args or "", before.get("optim_args") or "")
        return {pair.partition("=")[0].strip() for text in texts for pair in text.split(",")} - {"", "lr"}

    def _load_run_state(self, folder: Path) -> None:
        path = folder / f"run_state_{self.args.process_index}.json"
        saved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.resumed_world_size = saved.get("world_size")
        if self.resumed_world_size not in (None, self.args.world_size):
            logger.warning(
                f"{folder} was saved by {self.resumed_world_size} processes and is resumed from by "
                f"{self.args.world_size}: random numbers differ from those of an undisturbed run."
            )
        elif saved:
            self._resumed_log_window = state_from_json(saved["log_window"], {})
        # Of the first process, so that all agree, also where they are more than before.
        first = _read_json(folder / "run_state_0.json") or {}
        self._evaluation_due = first.get("evaluation_due", False) and self.args.eval_strategy != IntervalStrategy.NO
        self.load_run_state(saved.get("state"))

    def get_batch_samples(self, *args, **kwargs):
        # The first call of a run comes just after the Trainer has set these to begin anew.
        if self._resumed_log_window is not None:
            self._globalstep_last_logged = self._resumed_log_window["since"]
            self._tr_loss += self._resumed_log_window["loss"]
            # The mean loss at the end is one of the steps of this call of `train`.
            self._total_loss_scalar -= gather(self._tr_loss).mean().item()
            self._resumed_log_window = None
        return super().get_batch_samples(*args, **kwargs)

    def _save_scaler(self, output_dir: str):
        if not self._has_own_formats:
            return super()._save_scaler(output_dir)
        if self.accelerator.scaler is not None and self.args.should_save:
            save_state(Path(output_dir), "scaler", self.accelerator.scaler.state_dict())

    def _load_scaler(self, checkpoint: str | None):
        if checkpoint is None or not (Path(checkpoint) / "scaler.json").is_file():
            return super()._load_scaler(checkpoint)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(load_state(Path(checkpoint), "scaler"))

    def _save_rng_state(self, output_dir: str):
        if is_torch_xla_available():
            return super()._save_rng_state(output_dir)
        # A process may come here before the first one has made the directory.
        os.makedirs(output_dir, exist_ok=True)
        state = random_state(self.args.device, all_devices=self.args.n_gpu > 1)
        write_json(Path(output_dir) / f"rng_state_{self.args.process_index}.json", state)

    def _load_rng_state(self, checkpoint: str | None):
        path = Path(checkpoint or "") / f"rng_state_{self.args.process_index}.json"
        if checkpoint is None or not path.is_file():
            return super()._load_rng_state(checkpoint)
        state = json.loads(path.read_text(encoding="utf-8"))
        set_random_state(state, self.args.device, all_devices=self.args.n_gpu > 1)

    # ---- Resuming ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        if resume_from_checkpoint is True:
            path, passed_over = find_whole_checkpoint(self.args.output_dir)
            for broken, problem in passed_over:
                logger.warning(f"Passed over {broken}: {problem}.")
            if path is None:
                raise ValueError(f"There is no whole checkpoint in {self.args.output_dir} to resume from.")
            resume_from_checkpoint = str(path)
        elif isinstance(resume_from_checkpoint, (str, os.PathLike)):
            # Sizes alone: a caller who wants the digests checked has done so by `check_whole`.
            problem = checkpoint_problem(Path(resume_from_checkpoint), digests=False)
            if problem is not None:
                raise ValueError(f"{resume_from_checkpoint} is not a whole checkpoint: {problem}.")
        self._resumed_log_window, self._evaluation_due = None, False
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _run_epoch(self, *args, trial=None, ignore_keys_for_eval=None, **kwargs):
        # The random numbers of the checkpoint are put back after it.
        self._make_up_evaluation(trial, ignore_keys_for_eval)
        # The Trainer makes one step too many where it is resumed from the checkpoint of the last one.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        elif not self.control.should_training_stop:  # as early stopping may want after that evaluation
            super()._run_epoch(*args, trial=trial, ignore_keys_for_eval=ignore_keys_for_eval, **kwargs)

    def _make_up_evaluation(self, trial, ignore_keys: list[str] | None = None) -> None:
        if not self._evaluation_due:
            return
        self._evaluation_due = False
        metrics = self._evaluate(trial, ignore_keys)
        best = self._determine_best_metric(metrics=metrics, trial=trial)
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The Trainer notes this at the save after the evaluation, which here was the one before.
        if best and self.state.best_global_step == self.state.global_step and folder.is_dir():
            self.state.best_model_checkpoint = str(folder)

    def _finalize_training(self, trial, *args, **kwargs):
        self._make_up_evaluation(trial)  # where no step was left to make
        # With a limit of 1 the Trainer would now delete all but the best: also the one that a resume needs.
        with replaced(self.args, save_total_limit=None):
            return super()._finalize_training(trial, *args, **kwargs)


class _Stage:
    """A part of a save: ends on all processes or on none, and turns a failure to write into a CheckpointError.

    A class, since it has to look at errors of every type: tokenizers report a full disk as a bare Exception.

    Args:
        tells_others: a failure stops all processes. Without it, the others wait here until they are ended.
        alone: no waiting, for calls that not all processes need to make; and nothing is deleted after a failure.
    """

    def __init__(self, trainer: CheckpointedTrainer, folder: Path, tells_others: bool = True, alone: bool = False):
        self.trainer, self.folder, self.tells_others, self.alone = trainer, folder, tells_others, alone

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if error is not None and not _is_write_failure(error):
            return
        if not self._failed_anywhere(error is not None):
            return
        if not self.alone and self.trainer.args.should_save:
            shutil.rmtree(self.folder, ignore_errors=True)
        raise CheckpointError(self._message(error)) from error

    def _failed_anywhere(self, failed: bool) -> bool:
        if self.alone or self.trainer.args.world_size == 1 or (failed and not self.tells_others):
            return failed
        flag = torch.tensor([float(failed)], device=self.trainer.args.device)
        return bool(gather(flag).max() > 0)

    def _message(self, error: BaseException | None) -> str:
        run_dir = Path(self.trainer.args.output_dir) if self.alone else self.folder.parent
        last = last_whole_checkpoint(run_dir)
        cause = "another process failed" if error is None else f"{type(error).__name__}: {error}"
        way_out = f"There is no whole checkpoint in {run_dir} yet."
        if last is not None:
            way_out = (
                f"The last whole checkpoint is {last}: once there is space again, continue from it with "
                "--resume_from_checkpoint last."
            )
        return f"Saving {self.folder} failed ({cause}). The run stops here; nothing else was deleted. {way_out}"


@contextmanager
def replaced(target: object, **values) -> Iterator[None]:
    """Attributes of `target` set to `values` for as long as the block runs."""
    before = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)
