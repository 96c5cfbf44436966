# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The one Trainer: what it overrides, how it stops at NaN, and how it stops at a signal."""

import copy
import errno
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from tiny_model import QUIET, STEEP, assert_same_state, make_rows, make_tiny
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from modeling_gau.glue.trainer import GlueTrainer
from modeling_gau.pretraining.trainer import MaskedLMTrainer
from modeling_gau.runs.checkpoints import find_whole_checkpoint
from modeling_gau.runs.signals import TerminationCallback
from modeling_gau.runs.trainer import CheckpointError, NonFiniteError, RunTrainer


HEALTHY, POISONED = 1.0, math.nan


class SeeingTrainer(RunTrainer):
    """Remembers the loss of every batch."""

    def train(self, *args, **kwargs):
        self.seen = []
        return super().train(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.seen.append(loss.item())
        return loss


def make_trainer(output_dir, factors=(), callbacks=(), rows=64, **settings) -> SeeingTrainer:
    """`factors`: of the losses of the first micro-batches, which hold 2 rows each; 2 of them make a step."""
    each = [factor for factor in factors for _ in range(2)] + [HEALTHY] * rows
    data = [row | {"factor": torch.tensor(each[i])} for i, row in enumerate(make_rows(rows))]
    defaults = {"max_steps": 6, "save_steps": 2, "logging_steps": 1, "learning_rate": 1e-2, "weight_decay": 0.1}
    shape = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_nan_inf_filter": False}
    order = {"train_sampling_strategy": "sequential"}
    args = TrainingArguments(output_dir=str(output_dir), **(defaults | shape | QUIET | order | settings))
    return SeeingTrainer(
        model=make_tiny(), args=args, train_dataset=data, eval_dataset=data[-4:], callbacks=[*callbacks]
    )


def snapshot(trainer) -> dict:
    """A copy of the weights and of the optimizer's states."""
    state = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()["state"]}
    return copy.deepcopy(state)


class Snapshots(TrainerCallback):
    """After every step."""

    def __init__(self):
        self.taken, self.trainer = [], None

    def on_step_end(self, args, state, control, **kwargs):
        self.taken.append(snapshot(self.trainer))


def steps_saved(path: Path) -> list[str]:
    return sorted(folder.name for folder in path.glob("checkpoint-*"))


# ---- Overrides ----


# Private methods of `transformers.Trainer` that our classes override, and the promise that each serves.
OVERRIDDEN = {
    "_get_grad_norm": "NaN stops the run before the weights change",
    "_run_epoch": "no step after the last one; an evaluation left out is made up before the first",
    "_finalize_training": "the evaluation left out is made up; the last checkpoint stays beside the best",
    "_save_checkpoint": "a checkpoint is whole or passed over, holds no pickle and no NaN",
    "_load_from_checkpoint": "a sharded model resumes on any number of processes",
    "_load_best_model": "the best model is kept, also of a sharded run",
    "_load_optimizer_and_scheduler": "bit-equal resume, without unpickling",
    "_load_rng_state": "bit-equal resume, without unpickling",
}


def test_private_methods_of_the_trainer_are_overridden_for_a_promise_only():
    private = {name for name in dir(Trainer) if name.startswith("_") and not name.startswith("__")}
    ours = set().union(*(vars(one) for one in (RunTrainer, MaskedLMTrainer, GlueTrainer)))
    assert private & ours == OVERRIDDEN.keys()
    assert len(OVERRIDDEN) <= 8
    for subclass in (MaskedLMTrainer, GlueTrainer):
        assert subclass.__bases__ == (RunTrainer,)
        assert not private & vars(subclass).keys()


# ---- Loss and gradient ----


# Steps 1 and 2 are good; of step 3, the second micro-batch is the sixth of the run.
THIRD_STEP = [HEALTHY] * 5


@pytest.mark.parametrize(
    ("factor", "words", "max_grad_norm"),
    [
        (POISONED, "Step 3: the loss of micro-batch 2 of 2 is nan.", 0.0),
        (math.inf, "Step 3: the loss of micro-batch 2 of 2 is inf.", 1.0),
        (STEEP, "Step 3: the norm of the gradient is ", 1.0),
        (STEEP, "Step 3: the norm of the gradient is ", 0.0),
    ],
)
def test_stop_names_step_and_batch_before_any_harm(tmp_path, factor, words, max_grad_norm):
    snapshots = Snapshots()
    trainer = make_trainer(tmp_path, [*THIRD_STEP, factor], [snapshots], save_steps=1, max_grad_norm=max_grad_norm)
    snapshots.trainer = trainer
    with pytest.raises(NonFiniteError) as raised:
        trainer.train()
    message = str(raised.value)
    assert message.startswith(words)
    assert f"The last checkpoint, from before it, is {tmp_path / 'checkpoint-2'}." in message
    assert len(snapshots.taken) == 2
    assert_same_state(snapshots.taken[-1], snapshot(trainer))
    assert steps_saved(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_stop_before_the_first_checkpoint(tmp_path):
    with pytest.raises(NonFiniteError, match=r"Step 1: .* There is no checkpoint yet\."):
        make_trainer(tmp_path, [POISONED]).train()
    assert steps_saved(tmp_path) == []


@pytest.mark.parametrize("resumed_at", [2, 4, 6])
@pytest.mark.parametrize("logging_steps", [1, 5])
def test_totals_of_a_resumed_run_are_of_the_whole_run(tmp_path, resumed_at, logging_steps):
    whole = make_trainer(tmp_path, max_steps=6, save_steps=2, logging_steps=logging_steps)
    output = whole.train()
    again = make_trainer(tmp_path, max_steps=6, save_steps=2, logging_steps=logging_steps)
    resumed = again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{resumed_at}"))
    assert resumed.training_loss == output.training_loss == pytest.approx(sum(whole.seen) / 6)
    last = again.state.log_history[-1]
    assert last["train_loss"] == resumed.metrics["train_loss"] == resumed.training_loss
    assert last["train_runtime"] > 0.1 * output.metrics["train_runtime"]
    rates = (last["train_steps_per_second"], last["train_samples_per_second"])
    assert rates == pytest.approx((6 / last["train_runtime"], 24 / last["train_runtime"]), rel=0.1)


def test_totals_after_a_checkpoint_of_an_earlier_version_are_of_the_steps_since(tmp_path):
    make_trainer(tmp_path, max_steps=4).train()
    path = tmp_path / "checkpoint-4" / "run_state_0.json"
    content = json.loads(path.read_text())
    del content["so_far"]
    path.write_text(json.dumps(content))
    (tmp_path / "checkpoint-4" / "checkpoint.json").unlink()
    resumed = make_trainer(tmp_path, max_steps=6, logging_steps=5)
    output = resumed.train(resume_from_checkpoint=True)
    assert len(resumed.seen) == 4
    assert output.training_loss == pytest.approx(sum(resumed.seen) / 2)
    rate = resumed.state.log_history[-1]["train_steps_per_second"]
    assert rate == pytest.approx(2 / output.metrics["train_runtime"], rel=0.1)


def test_weights_that_overflowed_are_not_saved(tmp_path):
    class Overflow(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model, **kwargs):
            if state.global_step == 3:
                model.head.bias.data[0] = math.inf

    trainer = make_trainer(tmp_path, callbacks=[Overflow()])
    with pytest.raises(NonFiniteError, match=r"After step 4 weights are NaN or infinite: head\.bias\. .*checkpoint-2"):
        trainer.train()
    assert steps_saved(tmp_path) == ["checkpoint-2"]


def test_gradient_is_left_to_a_scaler(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer._step_losses = [torch.tensor(1.0)]
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    assert trainer._non_finite(torch.tensor(math.inf)) == []
    trainer._step_losses = [torch.tensor(1.0), torch.tensor(math.inf)]
    assert trainer._non_finite(torch.tensor(math.inf)) == ["the loss of micro-batch 2 of 2 is inf"]


# ---- Signals ----


class Send(TrainerCallback):
    """Sends signals to this process at the begin of a step, counted from 0, or after the evaluation of one."""

    def __init__(self, *numbers: int, step: int | None = None, evaluation: int | None = None):
        self.numbers, self.step, self.evaluation = numbers or (signal.SIGTERM,), step, evaluation

    def send(self) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.send()

    def on_evaluate(self, args, state, control, **kwargs):
        if state.global_step == self.evaluation:
            self.send()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signal_ends_the_run_with_a_checkpoint(tmp_path, number, capfd):
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    termination = TerminationCallback()
    # Step 4 would be evaluated, and so would the end of the epoch.
    schedule = {"eval_strategy": "steps", "eval_steps": 4, "save_steps": 100}
    trainer = make_trainer(tmp_path, callbacks=[Send(number, signal.SIGTERM, step=3), termination], **schedule)
    trainer.train()
    assert trainer.state.global_step == 4
    assert steps_saved(tmp_path) == ["checkpoint-4"]
    assert find_whole_checkpoint(tmp_path) == (tmp_path / "checkpoint-4", [])
    assert not any("eval_loss" in row for row in trainer.state.log_history)
    assert termination.received == number
    assert termination.exit_code() == 128 + number
    said = capfd.readouterr().err
    assert said.count(f"{number.name}: the run saves a checkpoint and stops after this step.") == 1
    assert said.count("SIGTERM: ignored, the run is already about to save and stop.") == 1
    assert {one: signal.getsignal(one) for one in before} == before


def test_signal_in_a_run_by_epochs_saves_once(tmp_path):
    by_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "rows": 24, "max_steps": 20}
    trainer = make_trainer(tmp_path, callbacks=[Send(step=1), TerminationCallback()], **by_epoch)
    saves = []
    trainer.run_state = lambda: saves.append(trainer.state.global_step) or {}
    trainer.train()
    assert saves == [2]
    assert not any("eval_loss" in row for row in trainer.state.log_history)


def history(trainer) -> list[dict]:
    """What was logged, without times and what is of one call of `train`."""
    rows = [row for row in trainer.state.log_history if "train_loss" not in row]
    return [{k: v for k, v in row.items() if not k.endswith(("_runtime", "_per_second"))} for row in rows]


PLATEAU = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "threshold": 10.0}}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}


# An epoch is 2 steps. Each recipe stops at a first, middle or last evaluation: the run makes up those before the last
# step when it resumes, and that of the last step at the end.
@pytest.mark.parametrize(
    ("recipe", "stops"),
    [
        ({}, [4]),
        (BEST, [2, 6]),
        (BEST | {"save_total_limit": 1}, [4, 6]),
        (PLATEAU, [2, 4]),
        ({"eval_strategy": "epoch"}, [4, 6]),
    ],
)
def test_evaluation_left_out_is_made_up(tmp_path, recipe, stops):
    # The loss falls, and with BEST the greatest counts: the first.
    settings = {"rows": 8, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2} | recipe
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train()
    expected = snapshot(whole)
    for stop in stops:
        output_dir = tmp_path / f"run-{stop}"
        callbacks = [Send(step=stop - 1), TerminationCallback()]
        stopped = make_trainer(output_dir, callbacks=callbacks, **settings)
        stopped.train()
        assert stopped.state.global_step == stop
        assert len([row for row in history(stopped) if "eval_loss" in row]) == stop // 2 - 1
        assert (output_dir / f"checkpoint-{stop}").is_dir()
        resumed = make_trainer(output_dir, callbacks=[TerminationCallback()], **settings)
        resumed.train(resume_from_checkpoint=True)
        assert history(resumed) == history(whole)
        assert [row["step"] for row in history(resumed) if "eval_loss" in row] == [2, 4, 6]
        assert resumed.state.best_metric == whole.state.best_metric
        assert resumed.state.best_global_step == whole.state.best_global_step
        names = [Path(run.state.best_model_checkpoint or "none").name for run in (whole, resumed)]
        assert names[0] == names[1]
        assert names[0] == "checkpoint-2" or "load_best_model_at_end" not in recipe
        assert_same_state(snapshot(resumed), expected)
        if settings["eval_strategy"] == "steps":  # by epoch, the Trainer saves before it evaluates
            again = make_trainer(output_dir, **settings)
            again.train(resume_from_checkpoint=str(output_dir / "checkpoint-6"))
            assert history(again) == history(whole)


def test_no_evaluation_is_made_up_where_none_is_wanted_any_more(tmp_path):
    evaluated = {"eval_strategy": "steps", "eval_steps": 4}
    make_trainer(tmp_path, callbacks=[Send(step=3), TerminationCallback()], **evaluated).train()
    resumed = make_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    assert not any("eval_loss" in row for row in resumed.state.log_history)


def test_early_stopping_by_the_evaluation_made_up(tmp_path):
    options = BEST | {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    make_trainer(tmp_path, callbacks=[Send(step=3), TerminationCallback()], **options).train()
    resumed = make_trainer(tmp_path, callbacks=[EarlyStoppingCallback(1)], **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 4
    assert [row["step"] for row in resumed.state.log_history if "eval_loss" in row] == [2, 4]


def test_signal_after_the_last_step_stops_before_what_follows(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 3}
    termination = TerminationCallback()
    trainer = make_trainer(tmp_path, callbacks=[Send(evaluation=6), termination], **options)
    trainer.train()
    assert termination.received == signal.SIGTERM
    assert termination.exit_code() == 143
    # Resumed, the run is done: it makes no step, and no evaluation anew.
    resumed = make_trainer(tmp_path, callbacks=[termination], **options)
    resumed.train(resume_from_checkpoint=True)
    assert termination.received is None
    assert resumed.seen == []
    assert history(resumed) == history(trainer)
    assert_same_state(resumed.model.state_dict(), trainer.model.state_dict())


def test_signal_after_the_last_step_without_a_checkpoint_is_passed_over(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "no"}
    termination = TerminationCallback()
    make_trainer(tmp_path, callbacks=[Send(evaluation=6), termination], **options).train()
    assert termination.received is None


def test_signal_amid_an_evaluation_stops_after_the_next_step(tmp_path):
    termination = TerminationCallback()
    trainer = make_trainer(tmp_path, callbacks=[Send(evaluation=3), termination], eval_strategy="steps", eval_steps=3)
    trainer.train()
    assert termination.received == signal.SIGTERM
    assert trainer.state.global_step == 4
    assert find_whole_checkpoint(tmp_path)[0].name == "checkpoint-4"


def interrupt_twice(folder: Path) -> None:
    """In a process of its own: Ctrl-C at step 2, and again at step 3, which does not end by itself."""

    class CtrlC(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1.1)
                os.kill(os.getpid(), signal.SIGINT)
                print("still there", flush=True)

    make_trainer(folder, callbacks=[CtrlC(), TerminationCallback()]).train()


def test_a_second_ctrl_c_ends_the_process_at_once(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=interrupt_twice, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGINT
    assert steps_saved(tmp_path) == ["checkpoint-2"]


def test_ctrl_c_leaves_the_workers_of_the_data_loader_alive(tmp_path, capfd):
    class ToAll(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            for process in multiprocessing.active_children() if state.global_step == 2 else ():
                os.kill(process.pid, signal.SIGINT)
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    termination = TerminationCallback()
    trainer = make_trainer(tmp_path, callbacks=[ToAll(), termination], dataloader_num_workers=2)
    trainer.train()
    assert (trainer.state.global_step, termination.exit_code()) == (4, 130)
    assert capfd.readouterr().err.count("SIGINT: the run saves a checkpoint") == 1


def test_a_signal_that_is_to_be_ignored_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trainer = make_trainer(tmp_path, callbacks=[Send(signal.SIGINT, step=2), TerminationCallback()])
        trainer.train()
        assert trainer.state.global_step == 6
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_run_without_a_signal_has_no_exit_code():
    with pytest.raises(ValueError, match="No signal"):
        TerminationCallback().exit_code()


def test_the_trainers_own_handling_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--enable_jit_checkpoint is not needed"):
        make_trainer(tmp_path, callbacks=[TerminationCallback()], enable_jit_checkpoint=True)


def test_handlers_are_put_back_after_an_error(tmp_path):
    before, termination = signal.getsignal(signal.SIGTERM), TerminationCallback()
    with pytest.raises(NonFiniteError):
        make_trainer(tmp_path, [POISONED], [termination]).train()
    assert signal.getsignal(signal.SIGTERM) != before
    termination.restore_handlers()
    assert signal.getsignal(signal.SIGTERM) == before


def test_training_in_another_thread(tmp_path):
    before, trainer = signal.getsignal(signal.SIGTERM), make_trainer(tmp_path, callbacks=[TerminationCallback()])
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.state.global_step == 6
    assert signal.getsignal(signal.SIGTERM) == before


# ---- Processes ----


def fill_disk(folder, state):
    raise OSError(errno.ENOSPC, "No space left on device")


def train_in_a_process(argv: list[str]) -> None:
    """One of two processes, with what `argv` says happening to one of them."""
    path, mode = argv
    rank, termination = int(os.environ["RANK"]), TerminationCallback()
    # Rows go to the processes in turn by micro-batches: the second of the first step is the first of process 1.
    factors = [HEALTHY, POISONED] if mode == "poison" else []
    callbacks = [Send(step=2)] if mode == "signal" and rank == 1 else []
    trainer = make_trainer(path, factors, [*callbacks, termination], rows=128)
    if mode == "full disk" and rank == 1:
        trainer._save_training_state = fill_disk
    try:
        trainer.train()
        print(f"process {rank}: step {trainer.state.global_step}, exit code {termination.exit_code()}", flush=True)
    except (CheckpointError, NonFiniteError) as error:
        print(f"process {rank}: {error}", flush=True)


def test_signal_to_one_of_two_processes_stops_both(tmp_path, in_two_processes):
    printed = in_two_processes(train_in_a_process, [str(tmp_path / "run"), "signal"])
    assert "process 0: step 3, exit code 143" in printed and "process 1: step 3, exit code 143" in printed
    assert "Process 1: SIGTERM: the run saves" in printed
    found, _ = find_whole_checkpoint(tmp_path / "run")
    assert found.name == "checkpoint-3"
    names = {path.name for path in found.iterdir()}
    assert {f"{kind}_{rank}.json" for kind in ("rng_state", "run_state") for rank in (0, 1)} <= names


def test_bad_loss_of_one_of_two_processes_stops_both(tmp_path, in_two_processes):
    printed = in_two_processes(train_in_a_process, [str(tmp_path / "run"), "poison"])
    for rank in (0, 1):
        assert f"process {rank}: Step 1: the loss of micro-batch 1 of 2 of process 1 is nan. The run stops" in printed


def test_failed_save_of_one_of_two_processes_stops_both(tmp_path, in_two_processes):
    printed = in_two_processes(train_in_a_process, [str(tmp_path / "run"), "full disk"])
    assert "process 0: Saving" in printed and "process 1: Saving" in printed
    assert "(another process failed)" in printed
    assert steps_saved(tmp_path / "run") == []
