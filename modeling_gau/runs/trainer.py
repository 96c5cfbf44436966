# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The Trainer of every run: `transformers.Trainer` with exact resume, whole checkpoints and no steps from NaN."""

import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from huggingface_hub import HfApi
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import ProgressCallback, Trainer, TrainingArguments
from transformers.trainer import SCALER_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, IntervalStrategy, SaveStrategy
from transformers.utils import PushInProgress, is_sagemaker_mp_enabled, is_torch_xla_available, logging

from ..configuration_gau import GAUError
from ..modeling_gau import give_usual_permissions
from .checkpoints import (
    CARD_NAME,
    STATE_PREFIXES,
    check_whole,
    checkpoint_problem,
    close_checkpoint,
    delete_old_checkpoints,
    find_whole_checkpoint,
    last_whole_checkpoint,
    open_checkpoint,
    read_run_state,
)
from .optimizer_state import load_optimizer_state as load_sharded_optimizer_state
from .optimizer_state import save_optimizer_state as save_sharded_optimizer_state
from .optimizers import MUON, make_muon
from .progress import RunProgress
from .sharding import BFLOAT16_POLICY, load_sharded_weights, plain_class, tied_names
from .signals import TerminationCallback
from .state_files import (
    content_of,
    for_json,
    load_optimizer_state,
    load_state,
    random_state,
    read_own_json,
    save_state,
    set_random_state,
    without_callables,
    write_json,
)


logger = logging.get_logger(__name__)

ARGUMENTS_NAME = "training_args.json"
SHARDS_NAME = "optimizer"  # directory of the optimizer's state under FSDP
# Settings of an optimizer's parameter groups that follow from arguments, besides `lr`, which belongs to the schedule.
# Some optimizers keep state in their groups too, such as a count of steps: that is loaded.
_SETTINGS = ("betas", "eps", "weight_decay", "initial_lr")


# Sums over the steps before this call of `train`; `unknown_steps` of them are not counted in the sums.
_NOTHING_SO_FAR = {"loss": 0.0, "rows": 0, "seconds": 0.0, "unknown_steps": 0}

# What no push uploads. The Trainer leaves out the first two; predictions hold the texts of the user's rows.
LEFT_OUT = ("_*", f"{PREFIX_CHECKPOINT_DIR}-*", "predictions_*")


class CheckpointError(GAUError, RuntimeError):
    """A checkpoint or the final model could not be written. The message names the last whole checkpoint."""


class NonFiniteError(GAUError, FloatingPointError):
    """A loss, the gradient or a weight is NaN or infinite. The message names the step and the batch."""


@contextmanager
def replaced(target: object, **values) -> Iterator[None]:
    """Sets attributes of `target` to `values` while the block runs."""
    before = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hides progress bars of transformers while the block runs, such as one of a single file within that of a run."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class RunTrainer(Trainer):
    """[`Trainer`] for runs that must survive kills, full disks and NaN, and resume bit-equal.

    - A checkpoint counts once its manifest is written, on behalf of all processes. Only then may `save_total_limit`
      delete older ones.
    - Optimizer, scheduler, gradient scaler, random states and arguments are saved as safetensors and JSON. Under FSDP2
      each process writes its shards of the optimizer's state; they load on any number of processes. DeepSpeed, XLA and
      SageMaker keep the Trainer's own formats for optimizer and scheduler; the manifest covers those too.
    - A checkpoint of the plain Trainer resumes through the Trainer's own loading, with `weights_only`.
    - A failure to write, such as a full disk, is a [`CheckpointError`] that names the last whole checkpoint.
    - A resumed run takes learning rate, weight decay, betas and so on from its own arguments. If these are unchanged,
      it is bit-equal to the undisturbed run. `reduce_lr_on_plateau` continues with the learning rate it had.
    - An evaluation that [`TerminationCallback`] left out is made when the run resumes, before its first step.
    - A NaN or infinite loss or gradient in any process stops the run with [`NonFiniteError`] before weights change.
      With a gradient scaler (float16), infinite gradients of finite losses are left to the scaler. DeepSpeed makes its
      step before anyone can look.
    """

    resumed_world_size: int | None = None
    _resumed_log_window: dict[str, float] | None = None
    _evaluation_due: bool = False  # for the step resumed from: the run before left it out
    _hub: HfApi | None = None
    _uploads: tuple[tuple[Path, Future], ...] = ()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.pop_callback(ProgressCallback) is not None:  # there is none with disable_tqdm, nor in a notebook
            self.add_callback(RunProgress)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """As in the Trainer, plus `--optim muon`. StableAdamW does without Triton, which does not run on a CPU."""
        if self.args.learning_rate is None:  # a trainer made by other code than the scripts
            self.args.fill_learning_rate(self.model.config)
        if self.optimizer is None and self.args.optim == MUON:
            self.optimizer = make_muon(model or self.model, self.get_decay_parameter_names, self.args)
        optimizer = super().create_optimizer(model)
        for group in optimizer.param_groups if self.args.device.type == "cpu" else ():
            if "triton" in group:
                group["triton"] = False
        return optimizer

    # ---- Hooks for subclasses ----

    def run_state(self) -> dict[str, Any]:
        """Returns what this process needs to go on from here, as JSON; saved with every checkpoint.

        All processes call it at the same time, so it may communicate.
        """
        return {}

    def load_run_state(self, state: dict[str, Any] | None) -> None:
        """Takes back what [`run_state`] returned, before the first batch is read.

        Called on every resume. By then, `self.state.global_step` is the step of the checkpoint and
        `self.resumed_world_size` the number of processes that wrote it.

        Args:
            state: None if the checkpoint has no state for this process: fewer processes or the plain Trainer wrote it.
        """

    def batch_name(self, micro_batch: int, micro_batches: int, process: int) -> str:
        """Names a batch in messages; both numbers count from 0."""
        of_process = f" of process {process}" if self.args.world_size > 1 else ""
        return f"micro-batch {micro_batch + 1} of {micro_batches}{of_process}"

    def outside_training(self) -> AbstractContextManager:
        """Entered around evaluations and saves, for subclasses that time the training."""
        return nullcontext()

    # ---- Steps ----

    def get_decay_parameter_names(self, model):
        """Only matrices decay: learned scales, offsets and position biases do not."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled and self.args.bf16:
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = BFLOAT16_POLICY

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = self._newest_whole_checkpoint()
        elif isinstance(resume_from_checkpoint, (str, os.PathLike)):
            check_whole(resume_from_checkpoint, digests=self.args.process_index == 0)
        self._resumed_log_window, self._evaluation_due = None, False
        self._step_losses: list[torch.Tensor] = []
        self._so_far, self._began, self._first_step = _NOTHING_SO_FAR, None, 0
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        return output._replace(training_loss=output.metrics["train_loss"])

    def log(self, logs, *args, **kwargs):
        if "train_loss" in logs:
            # Of the whole run, also after a resume. In place: `train` returns this dict.
            logs["train_runtime"] = round(logs["train_runtime"] + self._so_far["seconds"], 4)
            seconds, steps = max(logs["train_runtime"], 1e-4), self.state.global_step - self._so_far["unknown_steps"]
            logs["train_loss"] = self._total_loss_scalar / max(steps, 1)
            logs["train_samples_per_second"] = round(self._rows_so_far() / seconds, 3)
            logs["train_steps_per_second"] = round(steps / seconds, 3)
        super().log(logs, *args, **kwargs)

    def _newest_whole_checkpoint(self) -> str:
        path, passed_over = find_whole_checkpoint(self.args.output_dir)
        for broken, problem in passed_over:
            logger.warning(f"Passed over {broken}: {problem}.")
        if path is None:
            raise GAUError(f"There is no whole checkpoint in {self.args.output_dir} to resume from.")
        return str(path)

    def _rows_so_far(self) -> int:
        steps = self.state.global_step - self._first_step
        return self._so_far["rows"] + steps * self.get_total_train_batch_size(self.args)

    def _begin(self) -> None:
        """Continues the sums of the run resumed from, in the first call after the Trainer has reset them."""
        if self._began is not None:
            return
        self._began, self._total_loss_scalar = time.monotonic(), self._so_far["loss"]
        if self._resumed_log_window is not None:
            self._globalstep_last_logged = int(self._resumed_log_window["since"])
            self._tr_loss += self._resumed_log_window["loss"]
            if self._so_far["unknown_steps"]:  # the mean loss at the end covers only the steps of this call of `train`
                self._total_loss_scalar -= gather(self._tr_loss).mean().item()
            self._resumed_log_window = None

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self._step_losses.append(loss.detach())
        return loss

    # Promise: NaN stops the run. It comes just before the optimizer's step, and after the gradient of all processes.
    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        problems = self._non_finite(grad_norm)
        if problems:
            listed = "; ".join(problems[:4]) + ("; ..." if len(problems) > 4 else "")
            raise NonFiniteError(
                f"Step {self.state.global_step + 1:,}: {listed}. The run stops before the weights change. "
                f"{self._way_back()} Ways out: a lower --learning_rate, a longer warm-up, or a lower --max_grad_norm."
            )
        return grad_norm

    def _non_finite(self, grad_norm: torch.Tensor | float | None) -> list[str]:
        """Says what is NaN or infinite in the coming step; the same on all processes. Waits for the device once."""
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

    def _way_back(self) -> str:
        last = last_whole_checkpoint(self.args.output_dir)
        return "There is no checkpoint yet." if last is None else f"The last checkpoint, from before it, is {last}."

    # Promises: a resumed run evaluates what the run before left out, and makes no step after the last one.
    def _run_epoch(self, *args, trial=None, ignore_keys_for_eval=None, **kwargs):
        self._begin()
        self._make_up_evaluation(trial, ignore_keys_for_eval)
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        elif not self.control.should_training_stop:  # early stopping may ask for it in that evaluation
            super()._run_epoch(*args, trial=trial, ignore_keys_for_eval=ignore_keys_for_eval, **kwargs)

    # Promises: the evaluation left out is made even if no step is left, and the last checkpoint stays beside the best.
    def _finalize_training(self, trial, *args, **kwargs):
        self._begin()
        self._make_up_evaluation(trial)
        # With a limit of 1, the Trainer would delete all but the best here.
        with replaced(self.args, save_total_limit=None):
            return super()._finalize_training(trial, *args, **kwargs)

    def _make_up_evaluation(self, trial, ignore_keys: list[str] | None = None) -> None:
        if not self._evaluation_due:
            return
        self._evaluation_due = False
        metrics = self._evaluate(trial, ignore_keys)
        best = self._determine_best_metric(metrics=metrics, trial=trial)
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The Trainer notes the best checkpoint in the save after the evaluation; this save came before.
        if best and self.state.best_global_step == self.state.global_step and folder.is_dir():
            self.state.best_model_checkpoint = str(folder)

    # `dataloader_drop_last` is for training. The Trainer would leave rows out of evaluations and predictions too.
    def get_eval_dataloader(self, eval_dataset=None):
        with replaced(self.args, dataloader_drop_last=False):
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset):
        with replaced(self.args, dataloader_drop_last=False):
            return super().get_test_dataloader(test_dataset)

    def evaluate(self, *args, **kwargs):
        # The data loader of an evaluation draws a seed, and dropout would go on from there: what a run learns must not
        # depend on when it is evaluated.
        with self.outside_training(), torch.random.fork_rng(devices=[]):
            return super().evaluate(*args, **kwargs)

    # ---- Saving ----

    # Promises: a checkpoint is whole or passed over, nothing is pickled, and no checkpoint holds NaN.
    def _save_checkpoint(self, model, trial):
        run_dir = Path(self._get_output_dir(trial=trial))
        folder = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self.outside_training():
            self._check_weights()
            run_state = self.run_state()
            with _Stage(self, folder):
                if self.args.should_save:
                    open_checkpoint(folder, self.state.global_step)
            # A process that fails during a collective operation of the others cannot tell them: it just stops.
            tells_others = not (self._has_foreign_formats or self.is_fsdp_enabled or self.state.best_global_step)
            with _Stage(self, folder, tells_others):
                # From the Trainer: the model and its own state. The rest waits until the checkpoint is whole.
                with replaced(self.args, save_only_model=True, save_total_limit=None, push_to_hub=False):
                    super()._save_checkpoint(model, trial)
                if not self.args.save_only_model:
                    self._save_training_state(folder, run_state)
            with _Stage(self, folder):
                if self.args.should_save:
                    write_json(folder / ARGUMENTS_NAME, training_arguments(self.args))
                    close_checkpoint(folder, self.state.global_step)
            if self.args.should_save:
                delete_old_checkpoints(run_dir, folder, self.args.save_total_limit, self._checkpoints_in_use(run_dir))
            if self.args.push_to_hub:
                self.push_checkpoint(folder)

    def _check_weights(self) -> None:
        """Raises NonFiniteError if a weight is NaN or infinite: a finite gradient can still make one overflow."""
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

    @property
    def _has_foreign_formats(self) -> bool:
        return self.is_deepspeed_enabled or is_torch_xla_available() or is_sagemaker_mp_enabled()

    def _save_training_state(self, folder: Path, run_state: dict[str, Any]) -> None:
        """Writes what a resume needs beyond the model and the Trainer's state."""
        folder.mkdir(parents=True, exist_ok=True)  # missing on a node with a disk of its own
        if self._has_foreign_formats:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
        else:
            self._save_optimizer(folder)
        if is_torch_xla_available():
            self._save_rng_state(str(folder))
        else:
            state = random_state(self.args.device, all_devices=self.args.n_gpu > 1)
            write_json(folder / f"rng_state_{self.args.process_index}.json", state)
        # The Trainer forgets the losses since the last line of the log.
        window = {"since": self._globalstep_last_logged, "loss": self._tr_loss.item()}
        content = {"world_size": self.args.world_size, "log_window": window, "state": run_state}
        content["so_far"] = {
            "loss": self._total_loss_scalar,
            "rows": self._rows_so_far(),
            "seconds": self._so_far["seconds"] + time.monotonic() - (self._began or time.monotonic()),
            "unknown_steps": self._so_far["unknown_steps"],
        }
        callbacks = [one for one in self.callback_handler.callbacks if isinstance(one, TerminationCallback)]
        content["evaluation_due"] = any(one.evaluation_due for one in callbacks)
        write_json(folder / f"run_state_{self.args.process_index}.json", content)

    def _save_optimizer(self, folder: Path) -> None:
        if self.is_fsdp_enabled:
            save_sharded_optimizer_state(folder / SHARDS_NAME, self.model, self.optimizer)
        if not self.args.should_save:
            return
        if not self.is_fsdp_enabled:
            save_state(folder, "optimizer", self.optimizer.state_dict())
        save_state(folder, "scheduler", without_callables(self.lr_scheduler.state_dict()))
        if self.accelerator.scaler is not None:
            save_state(folder, "scaler", self.accelerator.scaler.state_dict())

    def _checkpoints_in_use(self, run_dir: Path) -> set[Path]:
        """The checkpoints that `save_total_limit` must not delete."""
        best = self.state.best_model_checkpoint
        waiting = {path for path, upload in self._uploads if not upload.done()}
        return waiting | ({run_dir / Path(best).name} if best is not None else set())

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if _internal_call:
            return self._write_model(folder)
        with _Stage(self, folder, alone=True):
            self._write_model(folder)
        # Outside the stage: what fails here is a network, not a disk.
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _write_model(self, folder: Path) -> None:
        if self.is_fsdp_enabled:
            self._write_sharded_model(folder)
        else:
            with without_bars():
                super().save_model(str(folder), _internal_call=True)
        if self.args.should_save:
            give_usual_permissions(folder)  # a GAU has them by now, other encoders do not
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            write_json(folder / ARGUMENTS_NAME, training_arguments(self.args))

    def _write_sharded_model(self, folder: Path) -> None:
        """Writes `model.safetensors` whatever `state_dict_type` says: the Trainer does so for FULL_STATE_DICT only."""
        weights = self.accelerator.get_state_dict(self.model)
        if self.args.should_save:
            # Gathered one by one, tied weights no longer share memory, which is how transformers recognizes them.
            weights = {name: weight for name, weight in weights.items() if name not in tied_names(self.model)}
            with plain_class(self.model):
                self._save(str(folder), state_dict=weights)

    # ---- Loading ----

    # Promise: a sharded model resumes on any number of processes.
    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if self.is_fsdp_enabled:
            load_sharded_weights(resume_from_checkpoint, model or self.model)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    # Promise: the best model is kept, also of a sharded run.
    def _load_best_model(self):
        if self.is_fsdp_enabled:
            load_sharded_weights(self.state.best_model_checkpoint, self.model)
        else:
            super()._load_best_model()

    # Promises: bit-equal resume, without unpickling. The Trainer calls it on every resume before it reads a batch.
    def _load_optimizer_and_scheduler(self, checkpoint):
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        self._check_same_kind_of_optimizer(folder)
        with self._settings_kept(folder):
            if self.is_fsdp_enabled or (folder / SHARDS_NAME).is_dir():
                # Shards load under any strategy, and FSDP loads nothing else.
                load_sharded_optimizer_state(folder / SHARDS_NAME, self.model, self.optimizer)
                self._load_scheduler(folder)
            elif (folder / "optimizer.json").is_file() and not self._has_foreign_formats:
                with content_of(folder / "optimizer.json"):
                    load_optimizer_state(self.optimizer, load_state(folder, "optimizer"))
                self._load_scheduler(folder)
            else:
                if not any(folder.glob("*optim*")) and not self.is_deepspeed_enabled:
                    logger.warning(
                        f"{folder} holds the model only: optimizer, schedule and random numbers start anew."
                    )
                with content_of(folder):
                    super()._load_optimizer_and_scheduler(checkpoint)
        self._load_scaler_state(folder)
        with content_of(folder / f"run_state_{self.args.process_index}.json"):
            self._read_run_state(folder)

    def _check_same_kind_of_optimizer(self, folder: Path) -> None:
        with content_of(folder / ARGUMENTS_NAME):
            before = (read_own_json(folder / ARGUMENTS_NAME) or {}).get("optim")
        now = training_arguments(self.args)["optim"]
        if before is not None and (before == MUON) != (now == MUON):
            raise GAUError(
                f"{folder} was trained with --optim {before}, whose state --optim {now} cannot take over. "
                f"Resume with --optim {before}, or begin a new run from its weights with --model_name_or_path."
            )

    def _load_scheduler(self, folder: Path) -> None:
        with content_of(folder / "scheduler.json"):
            self.lr_scheduler.load_state_dict(load_state(folder, "scheduler"))

    def _load_scaler_state(self, folder: Path) -> None:
        scaler = self.accelerator.scaler
        if (folder / SCALER_NAME).is_file():  # of the plain Trainer, which loads it next, without such checks
            if scaler is None:
                raise GAUError(
                    f"{folder} was trained in float16 ({SCALER_NAME}): resume with --fp16, or delete that file to go "
                    "on in another precision."
                )
            with content_of(folder / SCALER_NAME):
                scaler.load_state_dict(torch.load(folder / SCALER_NAME, weights_only=True))
        elif scaler is not None and (folder / "scaler.json").is_file():
            with content_of(folder / "scaler.json"):
                scaler.load_state_dict(load_state(folder, "scaler"))

    @contextmanager
    def _settings_kept(self, folder: Path) -> Iterator[None]:
        """Keeps the settings that follow from this run's arguments while the block loads a state.

        If the arguments have not changed, this changes nothing: a schedule is a function of the step.
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
        """Settings named in `--optim_args` of this run or of the run that saved `folder`."""
        before = read_own_json(folder / ARGUMENTS_NAME) or {}
        with content_of(folder / ARGUMENTS_NAME):
            texts = (self.args.optim_args or "", before.get("optim_args") or "")
            return {pair.partition("=")[0].strip() for text in texts for pair in text.split(",")} - {"", "lr"}

    def _read_run_state(self, folder: Path) -> None:
        self._first_step = self.state.global_step
        # An earlier version, or the plain Trainer, says nothing of the steps before.
        self._so_far = _NOTHING_SO_FAR | {"unknown_steps": self.state.global_step}
        own, first = (read_run_state(folder, index) for index in (self.args.process_index, 0))
        self.resumed_world_size = own.get("world_size")
        if self.resumed_world_size not in (None, self.args.world_size):
            logger.warning(
                f"{folder} was saved by {self.resumed_world_size} processes and is resumed by "
                f"{self.args.world_size}: random numbers differ from those of an undisturbed run."
            )
        elif own:
            self._resumed_log_window = {name: float(own["log_window"][name]) for name in ("since", "loss")}
        if "so_far" in first:
            self._so_far = {name: type(start)(first["so_far"][name]) for name, start in _NOTHING_SO_FAR.items()}
            if self._resumed_log_window is None:
                self._so_far["loss"] += first["log_window"]["loss"]
        # From the first process, so that all agree even if there are more of them now.
        self._evaluation_due = first.get("evaluation_due", False) and self.args.eval_strategy != IntervalStrategy.NO
        self.load_run_state(own.get("state"))

    # Promises: bit-equal resume, without unpickling. The Trainer calls it where the data loader has drawn its seeds.
    def _load_rng_state(self, checkpoint):
        if checkpoint is None:
            return
        path = Path(checkpoint) / f"rng_state_{self.args.process_index}.json"
        state = read_own_json(path)
        with content_of(path if state is not None else Path(checkpoint)):
            if state is None:
                super()._load_rng_state(checkpoint)
            else:
                set_random_state(state, self.args.device, all_devices=self.args.n_gpu > 1)

    # ---- The Hub ----

    def create_model_card(self, *args, **kwargs):
        # Called before every push. A card that exists says more than the Trainer's draft.
        if not (Path(self.args.output_dir) / CARD_NAME).is_file():
            super().create_model_card(*args, **kwargs)

    def push_checkpoint(self, folder: Path) -> None:
        """Pushes as the Trainer does, but no pickled arguments, and no checkpoint that is not whole."""
        output_dir = Path(self.args.output_dir)
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if checkpoint_problem(folder, digests=False) is not None or (busy and not self.args.hub_always_push):
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith((*STATE_PREFIXES, CARD_NAME)):
                shutil.copy(path, output_dir / path.name)
        jobs = [self._upload(output_dir, ignore_patterns=list(LEFT_OUT))]
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last_only = self.args.hub_strategy == HubStrategy.CHECKPOINT
            jobs.append(self._upload(folder, path_in_repo="last-checkpoint" if last_only else folder.name))
            self._uploads = (*(pair for pair in self._uploads if not pair[1].done()), (folder, jobs[-1]))
        if busy:
            self.push_in_progress.jobs.extend(jobs)
        else:
            self.push_in_progress = PushInProgress(jobs)

    def _upload(self, folder: Path, **options) -> Future:
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        when = f"step {self.state.global_step}" if by_steps else f"epoch {int(self.state.epoch)}"
        suffix = ", checkpoint" if "path_in_repo" in options else ""
        # One client uploads one folder after the other. The Hub refuses simultaneous commits (412).
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


def training_arguments(args: TrainingArguments) -> dict[str, Any]:
    """Returns the arguments of a run as JSON, without the tokens of any service."""
    return for_json({key: value for key, value in args.to_dict().items() if not key.endswith("_token")})


class _Stage:
    """A part of a save. It ends on all processes or on none, and turns a failure to write into a CheckpointError.

    A class, because it must see errors of every type: tokenizers report a full disk as a bare Exception.

    Args:
        tells_others: a failure stops all processes. Otherwise, the others wait here until they are killed.
        alone: do not wait, for calls that some processes may not make, and delete nothing after a failure.
    """

    def __init__(self, trainer: RunTrainer, folder: Path, tells_others: bool = True, alone: bool = False):
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
                f"The last whole checkpoint is {last}: free some space, then continue from it with "
                "--resume_from_checkpoint last."
            )
        return f"Saving {self.folder} failed ({cause}). The run stops here; nothing else was deleted. {way_out}"


def _is_write_failure(error: BaseException) -> bool:
    # When a file cannot be written, tokenizers raise a bare Exception and torch a RuntimeError.
    said = ("(os error ", "PytorchStreamWriter", "inline_container", "iostream error")
    return isinstance(error, (OSError, SafetensorError)) or (
        isinstance(error, Exception) and any(words in str(error) for words in said)
    )
