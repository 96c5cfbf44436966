# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints: bit-equal resume, which are whole, kills and full disks in the middle of a save, rotation."""

import json
import logging
import math
import os
import random
import resource
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import QUIET, assert_same_state, make_rows, make_tiny
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.optimization import Adafactor

from modeling_gau.configuration_gau import GAUError
from modeling_gau.runs import checkpoints
from modeling_gau.runs import trainer as run_trainer
from modeling_gau.runs.arguments import RunArguments
from modeling_gau.runs.checkpoints import (
    check_whole,
    checkpoint_folders,
    checkpoint_problem,
    find_whole_checkpoint,
    last_whole_checkpoint,
    read_run_state,
    remove_all_checkpoints,
)
from modeling_gau.runs.optimizer_state import save_optimizer_state
from modeling_gau.runs.state_files import load_optimizer_state, load_state, save_state
from modeling_gau.runs.trainer import CheckpointError, RunTrainer


class CountingTrainer(RunTrainer):
    """With a state of the run: how many batches it has seen."""

    batches = 0
    loaded = "never"

    def training_step(self, *args, **kwargs):
        self.batches += 1
        return super().training_step(*args, **kwargs)

    def run_state(self):
        return {"batches": self.batches}

    def load_run_state(self, state):
        self.loaded = state
        self.batches = state["batches"] if state else 0


def make_trainer(output_dir, trainer_class=CountingTrainer, **settings) -> Trainer:
    defaults = {"max_steps": 8, "save_steps": 3, "logging_steps": 2, "per_device_train_batch_size": 4}
    kind = RunArguments if settings.get("optim") == "muon" else TrainingArguments
    args = kind(output_dir=str(output_dir), **(defaults | QUIET | settings))
    rows = make_rows()
    return trainer_class(model=make_tiny(), args=args, train_dataset=rows, eval_dataset=rows[:8])


def train(output_dir, resume=None, **settings) -> Trainer:
    trainer = make_trainer(output_dir, **settings)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer: Trainer) -> list[tuple[int, float, float]]:
    return [(row["step"], row["loss"], row["learning_rate"]) for row in trainer.state.log_history if "loss" in row]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Output directory of a short run with checkpoints of steps 3, 6 and 8. To be copied before it is changed."""
    path = tmp_path_factory.mktemp("finished") / "run"
    train(path)
    return path


@pytest.fixture
def run_dir(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# ---- States as safetensors and JSON ----


def test_nested_state_comes_back_bit_by_bit(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "state": {0: {"step": torch.tensor(3.0), "half": torch.randn(3, 2).bfloat16()}, 1: {"view": shared[2:]}},
        "param_groups": [{"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "params": [0, 1], "fused": True, "x": None}],
        "best": math.inf,
        "worst": -math.inf,
        "__tensor__": "a name like one of the format's own",
        "shared": shared,
        "turned": torch.arange(6).view(2, 3).t(),
        "empty": torch.zeros(0, 4),
    }
    save_state(tmp_path, "optimizer", state)
    back = load_state(tmp_path, "optimizer")
    assert_same_state(state, back)
    assert list(back["state"]) == [0, 1]
    assert type(back["param_groups"][0]["betas"]) is tuple
    # A state that is changed after loading must not change the file, or its neighbour.
    back["shared"].zero_()
    assert load_state(tmp_path, "optimizer")["shared"].sum() == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optimizer.json", "optimizer.safetensors"]


def test_state_without_tensors_is_json_alone(tmp_path):
    save_state(tmp_path, "scheduler", {"last_epoch": 3, "_last_lr": [1e-4 / 3]})
    assert load_state(tmp_path, "scheduler") == {"last_epoch": 3, "_last_lr": [1e-4 / 3]}
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler.json"]


def test_object_in_a_state_is_refused_by_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"optimizer\.state\.0\.hook is a object"):
        save_state(tmp_path, "optimizer", {"state": {0: {"hook": object()}}})
    assert list(tmp_path.iterdir()) == []


def test_statistics_keep_their_precision(tmp_path):
    def make():
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 4).bfloat16()
        return layer, Adafactor(layer.parameters(), lr=1e-3, relative_step=False, scale_parameter=False)

    layer, optimizer = make()
    for _ in range(2):
        layer(torch.randn(3, 8).bfloat16()).float().square().sum().backward()
        optimizer.step()
    state = optimizer.state_dict()
    assert state["state"][0]["exp_avg_sq_row"].dtype == torch.float32
    save_state(tmp_path, "optimizer", state)
    _, resumed = make()
    load_optimizer_state(resumed, load_state(tmp_path, "optimizer"))
    assert_same_state(state, resumed.state_dict())


# ---- Resume ----


RECIPES = {
    "adamw fused, wsd": {
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_decay_steps": 4},
        "warmup_steps": 2,
    },
    "adafactor, cosine": {"optim": "adafactor", "lr_scheduler_type": "cosine", "weight_decay": 0.1},
    "muon, linear": {"optim": "muon", "optim_args": "momentum=0.9", "weight_decay": 0.1},
    "momentum, plateau": {
        "optim": "sgd",
        "optim_args": "momentum=0.9",
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "threshold": 10.0},
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "loss",
    },
}


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("adamw fused, wsd", (3, 6)),
        ("adafactor, cosine", (6,)),
        ("muon, linear", (3, 6)),
        ("momentum, plateau", (3,)),
    ],
)
def test_resumed_run_is_bit_equal(tmp_path, name, steps):
    # An epoch is 4 steps: the resumes of step 3 and of step 6 lie on both sides of its end.
    settings = RECIPES[name] | {"learning_rate": 1e-2, "gradient_accumulation_steps": 4}
    whole = train(tmp_path / "whole", **settings)
    assert len(logged(whole)) == 4
    for step in steps:
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", tmp_path / str(step) / f"checkpoint-{step}")
        resumed = train(tmp_path / str(step), resume=True, **settings)
        assert resumed.loaded == {"batches": 4 * step}
        assert resumed.batches == whole.batches == 32
        # The line of step 4 covers step 3, too, which the resumed run did not make.
        assert logged(resumed) == logged(whole)
        for state in ("model", "optimizer", "lr_scheduler"):
            one, other = (getattr(trainer, state).state_dict() for trainer in (resumed, whole))
            assert_same_state(one | {"lr_lambdas": None}, other | {"lr_lambdas": None})


class Watch(TrainerCallback):
    """Looks at the settings of the optimizer before every step."""

    def __init__(self):
        self.seen = []

    def on_step_begin(self, args, state, control, optimizer, **kwargs):
        names = ("lr", "initial_lr", "weight_decay", "betas", "eps", "momentum", "k")
        self.seen.append([{k: group[k] for k in names if k in group} for group in optimizer.param_groups])


def resume_watched(output_dir, **settings) -> tuple[list, Trainer]:
    watch, trainer = Watch(), make_trainer(output_dir, **settings)
    trainer.add_callback(watch)
    trainer.train(resume_from_checkpoint=True)
    return watch.seen, trainer


def as_shards(run_dir: Path, trainer: Trainer) -> None:
    """Gives the newest checkpoint the optimizer's files of an FSDP run."""
    folder, _ = find_whole_checkpoint(run_dir)
    for name in ("optimizer.json", "optimizer.safetensors", "checkpoint.json"):
        (folder / name).unlink()
    save_optimizer_state(folder / "optimizer", trainer.model, trainer.optimizer)


OLD = {"learning_rate": 1e-2, "weight_decay": 0.1, "lr_scheduler_type": "linear", "optim": "adamw_torch"}
NEW = OLD | {"learning_rate": 4e-3, "weight_decay": 0.3, "adam_beta2": 0.95, "adam_epsilon": 1e-6}


@pytest.mark.parametrize("files", ["own", "plain", "shards"])
def test_changed_arguments_take_effect_at_the_resume(tmp_path, files):
    plain = {"trainer_class": Trainer} if files == "plain" else {}
    trainer = train(tmp_path, max_steps=6, **OLD, **plain)
    if files == "shards":
        as_shards(tmp_path, trainer)
    seen, resumed = resume_watched(tmp_path, max_steps=12, **NEW)
    assert len(seen) == 6
    for step, groups in enumerate(seen, 6):
        settings = {"lr": 4e-3 * (12 - step) / 12, "initial_lr": 4e-3, "betas": (0.9, 0.95), "eps": 1e-6}
        assert groups == [settings | {"weight_decay": decay} for decay in (0.3, 0.0)]
    rates = {row["step"]: row["learning_rate"] for row in resumed.state.log_history if "loss" in row}
    assert rates[8] == pytest.approx(4e-3 * 5 / 12)  # of the step, where the schedule was one further before it


@pytest.mark.parametrize(("before", "after"), [("0.9", None), (None, "0.9")])
def test_changed_optim_args_take_effect_at_the_resume(tmp_path, before, after):
    def options(momentum):
        return {"optim": "sgd", "optim_args": momentum and f"momentum={momentum}"}

    train(tmp_path, max_steps=3, **options(before))
    seen, _ = resume_watched(tmp_path, **options(after))
    assert {group["momentum"] for groups in seen for group in groups} == {float(after or 0)}


@pytest.mark.parametrize("kinds", [("muon", "adamw_torch"), ("adamw_torch", "muon")])
def test_muon_and_other_optimizers_cannot_take_over(tmp_path, kinds):
    before, after = kinds
    train(tmp_path, optim=before, max_steps=3, learning_rate=1e-3)
    with pytest.raises(GAUError, match=f"trained with --optim {before}, .*Resume with --optim {before}, or begin"):
        train(tmp_path, resume=True, optim=after, learning_rate=1e-3)


class StepCountingSGD(torch.optim.SGD):
    """As schedule-free optimizers and Prodigy do: a state among the settings."""

    def __init__(self, params, **settings):
        super().__init__(params, **settings)
        self.defaults["k"] = 0
        for group in self.param_groups:
            group["k"] = 0

    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
        return super().step(closure)


def test_state_among_the_settings_is_loaded(tmp_path):
    class CountingSGDTrainer(CountingTrainer):
        def create_optimizer(self, model=None):
            if self.optimizer is None:
                self.optimizer = StepCountingSGD(self.model.parameters(), lr=self.args.learning_rate)
            return self.optimizer

    train(tmp_path, max_steps=3, trainer_class=CountingSGDTrainer)
    seen, _ = resume_watched(tmp_path, trainer_class=CountingSGDTrainer, learning_rate=1e-3)
    assert [group["k"] for (group,) in seen] == [3, 4, 5, 6, 7]
    assert {group["initial_lr"] for (group,) in seen} == {1e-3}


def test_plateau_goes_on_with_its_rate(tmp_path):
    options = RECIPES["momentum, plateau"] | {"learning_rate": 1e-2}
    before = train(tmp_path, max_steps=3, **options)
    rate = before.optimizer.param_groups[0]["lr"]
    assert rate < 1e-2
    seen, _ = resume_watched(tmp_path, **options | {"learning_rate": 1.0})
    assert seen[0][0]["lr"] == rate


def test_finished_run_makes_no_further_step(run_dir, finished):
    resumed = train(run_dir, resume=True)
    assert (resumed.state.global_step, resumed.batches) == (8, 8)
    saved = load_file(finished / "checkpoint-8" / "model.safetensors")
    assert_same_state(resumed.model.state_dict(), saved)


@pytest.fixture
def told(caplog, monkeypatch) -> pytest.LogCaptureFixture:
    """What transformers' loggers say, too."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return caplog


def test_checkpoint_of_the_plain_trainer_is_resumed_from(tmp_path, told):
    whole = train(tmp_path / "whole", trainer_class=Trainer)
    shutil.copytree(tmp_path / "whole" / "checkpoint-6", tmp_path / "run" / "checkpoint-6")
    assert find_whole_checkpoint(tmp_path / "run") == (tmp_path / "run" / "checkpoint-6", [])
    resumed = train(tmp_path / "run", resume=True)
    assert "has no manifest" in told.text
    assert resumed.loaded is None
    assert_same_state(resumed.model.state_dict(), whole.model.state_dict())
    assert_same_state(resumed.optimizer.state_dict(), whole.optimizer.state_dict())


def test_model_only_checkpoint_says_that_the_rest_starts_anew(tmp_path, told):
    train(tmp_path, save_only_model=True, max_steps=3)
    names = {path.name for path in (tmp_path / "checkpoint-3").iterdir()}
    assert names == {"checkpoint.json", "config.json", "model.safetensors", "trainer_state.json", "training_args.json"}
    train(tmp_path, resume=True)
    assert "holds the model only" in told.text


# ---- Contents ----


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not in JSON")


def test_nothing_is_pickled_and_no_token_is_told(tmp_path):
    trainer = train(tmp_path, max_steps=3, hub_token="hf_secret", save_total_limit=2, max_grad_norm=math.inf)
    torch.save(trainer.args, tmp_path / "training_args.bin")  # of an earlier version; the final model replaces it
    trainer.save_model()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        content = path.read_bytes()
        assert b"hf_secret" not in content
        if path.suffix == ".json":
            json.loads(content, parse_constant=refuse_constant)
        else:
            load_file(path)
    for folder in (tmp_path, tmp_path / "checkpoint-3"):
        arguments = json.loads((folder / "training_args.json").read_text())
        assert (arguments["max_steps"], arguments["save_total_limit"]) == (3, 2)
        assert "hub_token" not in arguments


def test_files_get_the_permissions_of_the_users_umask(tmp_path):
    before = os.umask(0o027)
    try:
        train(tmp_path, max_steps=3, save_steps=3).save_model()
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "optimizer.safetensors"} <= {path.name for path in files}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}


def test_manifest_covers_every_file(finished):
    folder = finished / "checkpoint-8"
    manifest = json.loads((folder / "checkpoint.json").read_text())
    assert manifest["step"] == 8
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"checkpoint.json"}


# ---- Which are whole ----


def truncate(folder: Path) -> None:
    with open(folder / "optimizer.safetensors", "r+b") as file:
        file.truncate(1000)


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def interrupt(folder: Path) -> None:
    (folder / "checkpoint.json").write_text('{"format": 1, "step": 8, "files": null}')


def lose_manifest_early(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()
    (folder / "trainer_state.json").unlink()


DAMAGES = {
    "truncated": (truncate, r"optimizer.safetensors has 1,000 bytes of \d\d,\d{3}"),
    "missing": (lambda folder: (folder / "scheduler.json").unlink(), "scheduler.json is missing"),
    "altered": (flip, "digest of model.safetensors differs"),
    "interrupted": (interrupt, "saving it was interrupted"),
    "interrupted at once": (lose_manifest_early, "no checkpoint.json and no trainer_state.json"),
    "manifest cut": (lambda folder: (folder / "checkpoint.json").write_text('{"form'), "cannot be read"),
    "newer": (
        lambda folder: (folder / "checkpoint.json").write_text('{"format": 2, "files": {}}'),
        "format 2 is newer",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoint_is_named_and_passed_over(run_dir, damage, reason):
    newest, older = run_dir / "checkpoint-8", run_dir / "checkpoint-6"
    check_whole(newest)
    damage(newest)
    found, passed_over = find_whole_checkpoint(run_dir)
    assert found == older
    assert [path for path, _ in passed_over] == [newest]
    with pytest.raises(ValueError, match=f"checkpoint-8 is not a whole checkpoint: .*{reason}"):
        check_whole(newest)


def test_damage_in_several_is_told_of_each(run_dir):
    flip(run_dir / "checkpoint-8")
    truncate(run_dir / "checkpoint-6")
    found, passed_over = find_whole_checkpoint(run_dir)
    assert found.name == "checkpoint-3"
    assert ["digest" in problem for _, problem in passed_over] == [True, False]
    flip(run_dir / "checkpoint-3")
    assert find_whole_checkpoint(run_dir)[0] is None
    with pytest.raises(ValueError, match="no whole checkpoint"):
        train(run_dir, resume=True)


def test_explicit_resume_from_a_broken_checkpoint_is_refused(run_dir):
    truncate(run_dir / "checkpoint-8")
    with pytest.raises(ValueError, match=r"not a whole checkpoint: optimizer\.safetensors has 1,000 bytes"):
        train(run_dir, resume=str(run_dir / "checkpoint-8"))


def test_what_is_no_checkpoint_is_passed_over(tmp_path):
    assert find_whole_checkpoint(tmp_path / "none") == (None, [])
    with pytest.raises(ValueError, match="there is no such directory"):
        check_whole(tmp_path / "none")
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert find_whole_checkpoint(tmp_path) == (None, [])


def test_newest_is_the_greatest_number_and_digests_are_read_on_demand(run_dir):
    shutil.copytree(run_dir / "checkpoint-3", run_dir / "checkpoint-10")
    assert find_whole_checkpoint(run_dir)[0].name == "checkpoint-10"
    flip(run_dir / "checkpoint-10")
    assert find_whole_checkpoint(run_dir)[0].name == "checkpoint-8"
    assert find_whole_checkpoint(run_dir, digests=False) == (run_dir / "checkpoint-10", [])
    assert last_whole_checkpoint(run_dir).name == "checkpoint-10"
    truncate(run_dir / "checkpoint-10")
    assert last_whole_checkpoint(run_dir).name == "checkpoint-8"


def test_all_of_an_earlier_run_is_removed(run_dir):
    interrupt(run_dir / "checkpoint-6")
    shutil.copytree(run_dir / "checkpoint-8", run_dir / "_superseded-checkpoint-8")
    shutil.copytree(run_dir / "checkpoint-3", run_dir / "checkpoint-10")
    (run_dir / "checkpoint-10" / "checkpoint.json").unlink()
    for name in ("_deleted-checkpoint-2", "_deleted-_superseded-checkpoint-1"):
        (run_dir / name).mkdir()
        (run_dir / name / "half.json").write_text("{}")
    kept = ("checkpoint-7", "checkpoint-best", "_deleted-mine")
    for name in kept:
        (run_dir / name).mkdir()
        (run_dir / name / "notes.txt").write_text("mine")
    (run_dir / "config.json").write_text("{}")
    listed = [path.name for path in checkpoint_folders(run_dir)]
    assert listed == [
        "checkpoint-3", "checkpoint-6", "checkpoint-7", "_superseded-checkpoint-8", "checkpoint-8", "checkpoint-10",
    ]  # fmt: skip
    removed = remove_all_checkpoints(run_dir)
    assert {path.name for path in run_dir.iterdir()} == {*kept, "config.json"}
    leftovers = {"_deleted-checkpoint-2", "_deleted-_superseded-checkpoint-1"}
    assert {path.name for path in removed} == ({*listed} - {"checkpoint-7"}) | leftovers
    assert remove_all_checkpoints(run_dir) == []
    assert remove_all_checkpoints(run_dir / "none") == []


# ---- Damaged content ----

NESTED = "[" * 100_000 + "]" * 100_000
OTHER_MANIFESTS = {
    "nested": NESTED,
    "nested files": '{"format": 1, "files": ' + NESTED + "}",
    "text": '"whole"',
    "list of files": '{"format": 1, "files": ["model.safetensors"]}',
    "no files": '{"format": 1, "files": {}}',
    "bool": '{"format": true, "files": {"trainer_state.json": {}}}',
    "format 0": '{"format": 0, "files": {"trainer_state.json": {"bytes": 1, "blake2b": ""}}}',
    "list": '{"format": 1, "files": {"trainer_state.json": [1, 2]}}',
    "no digest": '{"format": 1, "files": {"trainer_state.json": {"bytes": 1}}}',
    "text for bytes": '{"format": 1, "files": {"trainer_state.json": {"bytes": "1", "blake2b": ""}}}',
    "long name": '{"format": 1, "files": {"' + "a" * 5000 + '": {"bytes": 1, "blake2b": ""}}}',
    "null in a name": r'{"format": 1, "files": {"\u0000": {"bytes": 1, "blake2b": ""}}}',
    "surrogate in a name": r'{"format": 1, "files": {"\ud800": {"bytes": 1, "blake2b": ""}}}',
}


@pytest.mark.parametrize("manifest", OTHER_MANIFESTS.values(), ids=OTHER_MANIFESTS)
def test_manifest_of_another_form_is_passed_over(run_dir, manifest):
    (run_dir / "checkpoint-8" / "checkpoint.json").write_text(manifest)
    for digests in (True, False):
        assert find_whole_checkpoint(run_dir, digests)[0].name == "checkpoint-6"
    with pytest.raises(ValueError, match="checkpoint-8 is not a whole checkpoint"):
        check_whole(run_dir / "checkpoint-8")


def flipped_bits(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`content` with one bit flipped, at `count` places."""
    for place in random.Random(seed).sample(range(8 * len(content)), min(count, 8 * len(content))):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        yield bytes(damaged)


def test_flipped_bits_of_a_manifest_are_passed_over_or_harmless(run_dir):
    path = run_dir / "checkpoint-8" / "checkpoint.json"
    files, passed_over = json.loads(path.read_bytes())["files"], 0
    for damaged in flipped_bits(path.read_bytes(), 300, seed=0):
        path.write_bytes(damaged)
        if find_whole_checkpoint(run_dir)[0].name == "checkpoint-8":
            assert json.loads(damaged)["files"] == files  # the flip is in the step, or between the entries
        else:
            passed_over += 1
    assert passed_over > 200


def as_if_saved(folder: Path) -> None:
    """Makes the manifest agree with the files, so that loading meets their damage."""
    path = folder / "checkpoint.json"
    listed = json.loads(path.read_bytes())["files"]
    for name in listed:
        listed[name] = {"bytes": (folder / name).stat().st_size, "blake2b": checkpoints._digest(folder / name)}
    path.write_text(json.dumps({"format": 1, "step": 6, "files": listed}))


STATES = ("optimizer.json", "optimizer.safetensors", "rng_state_0.json", "run_state_0.json", "scheduler.json")
STATES += ("trainer_state.json", "training_args.json")


@pytest.mark.parametrize("name", STATES)
def test_flipped_bits_of_a_state_are_named_or_harmless(run_dir, name):
    folder = run_dir / "checkpoint-6"
    content = (folder / name).read_bytes()
    trainer = make_trainer(run_dir, max_steps=6)
    for damaged in flipped_bits(content, 25, seed=1):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"the digest of {name} differs"):
            trainer.train(resume_from_checkpoint=str(folder))
        as_if_saved(folder)
        try:
            trainer.train(resume_from_checkpoint=str(folder))
        except ValueError as error:
            told = str(error)
            assert name.partition(".")[0] in told
            assert "\n" not in told
        (folder / name).write_bytes(content)
        as_if_saved(folder)


@pytest.mark.parametrize("name", [name for name in STATES if name.endswith(".json")])
@pytest.mark.parametrize("content", ["", "7", "[3]", '{"step": {"a": 1}}', NESTED, '"text"'])
def test_state_of_another_form_is_named(run_dir, name, content):
    folder = run_dir / "checkpoint-6"
    (folder / name).write_text(content)
    as_if_saved(folder)
    if (name, content[:2]) == ("training_args.json", '{"'):
        return  # as of a run without --optim_args
    with pytest.raises(ValueError, match=name) as caught:
        train(run_dir, resume=str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x04damaged", None])
def test_damage_in_a_checkpoint_of_the_plain_trainer_is_named(tmp_path, name, damage):
    """torch's own error suggests `weights_only=False`."""
    train(tmp_path, trainer_class=Trainer, max_steps=6)
    path = tmp_path / "checkpoint-6" / name
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    if name == "trainer_state.json":
        assert find_whole_checkpoint(tmp_path)[0].name == "checkpoint-3"
    with pytest.raises(ValueError, match="checkpoint-6") as caught:
        train(tmp_path, resume=str(tmp_path / "checkpoint-6"))
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"damaged", {}, {"scale": "large"}], ids=str)
def test_scaler_of_the_plain_trainer_is_loaded_or_named(tmp_path, content):
    train(tmp_path, trainer_class=Trainer, max_steps=3)
    path, trainer = tmp_path / "checkpoint-3" / "scaler.pt", make_trainer(tmp_path, max_steps=3)
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r"scaler\.pt\): resume with --fp16"):
        trainer.train(resume_from_checkpoint=str(path.parent))
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match=r"scaler\.pt cannot be used: [^\n]*$") as caught:
        trainer.train(resume_from_checkpoint=str(path.parent))
    assert "weights_only" not in str(caught.value)
    state = torch.amp.GradScaler("cpu", init_scale=4.0).state_dict()
    torch.save(state, path)
    trainer.train(resume_from_checkpoint=str(path.parent))
    assert trainer.accelerator.scaler.get_scale() == 4.0


@pytest.mark.parametrize(
    "entry",
    [{"global_step": True}, {"global_step": -1}, {"global_steps": 3}, {"log_history": "text"}, {"log_history": [3]},
     {"stateful_callbacks": []}, {"total_flos": "many"}, {"best_metric": []}],
    ids=str,
)  # fmt: skip
def test_trainer_state_of_another_form_is_passed_over(run_dir, entry):
    folder = run_dir / "checkpoint-8"
    (folder / "checkpoint.json").unlink()
    assert find_whole_checkpoint(run_dir)[0] == folder
    state = json.loads((folder / "trainer_state.json").read_bytes())
    (folder / "trainer_state.json").write_text(json.dumps(state | entry))
    assert find_whole_checkpoint(run_dir)[0].name == "checkpoint-6"


# ---- Kills ----


class Killed(BaseException):
    """In place of a SIGKILL: nothing in the code under test looks at it."""


class FileOperations:
    """Ends the program before its n-th change of a file below `root`, as the interpreter reports them."""

    MUTATING = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate")

    def __init__(self):
        self.root, self.left = None, 0

    def __call__(self, event, args):
        if self.root is None or event not in self.MUTATING:
            return
        if not any(isinstance(arg, (str, os.PathLike)) and str(arg).startswith(self.root) for arg in args):
            # Within `shutil.rmtree`, paths are relative to a directory that is open.
            if event not in ("os.remove", "os.rmdir"):
                return
        self.left -= 1
        if self.left < 0:
            self.root = None
            raise Killed

    @contextmanager
    def killed_before(self, number: int, root: Path) -> Iterator[None]:
        self.root, self.left = str(root), number
        try:
            yield
        finally:
            self.root = None


@pytest.fixture(scope="module")
def file_operations() -> FileOperations:
    hook = FileOperations()
    sys.addaudithook(hook)
    return hook


@pytest.fixture(scope="module")
def trainer_at_8(finished, tmp_path_factory) -> CountingTrainer:
    """A trainer that has just made step 8 of a run."""
    return train(tmp_path_factory.mktemp("trainer") / "run", save_strategy="no")


def steps_in(path: Path) -> set[int]:
    return {int(folder.name.removeprefix("checkpoint-")) for folder in path.iterdir()}


def kill_everywhere(trainer, start: Path, work: Path, operations, step: int) -> Iterator[Path]:
    """Saves `step` over and over in a copy of `start`, killed before the first operation, the second, and so on."""
    number, killed = 0, True
    while killed:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(start, work)
        trainer.args.output_dir, trainer.state.global_step, killed = str(work), step, False
        try:
            with operations.killed_before(number, work), pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda descriptor: None)  # slow, and no kill could tell
                trainer._save_checkpoint(trainer.model, None)
        except Killed:
            killed = True
            yield work
        number += 1
    assert number > 30, "the hook sees too few operations"


def test_kill_anywhere_in_a_save(trainer_at_8, finished, tmp_path, file_operations):
    trainer_at_8.args.save_total_limit = 1
    found_new = False
    for i, work in enumerate(kill_everywhere(trainer_at_8, finished, tmp_path / "run", file_operations, step=9)):
        found, passed_over = find_whole_checkpoint(work)
        assert found.name == "checkpoint-9" if found_new else found.name in ("checkpoint-8", "checkpoint-9")
        found_new = found.name == "checkpoint-9"
        # Older ones are deleted only when the new one is whole.
        assert found_new or {3, 6, 8} <= steps_in(work)
        assert {path.name for path, _ in passed_over} <= {"checkpoint-9"}
        if i % 5 == 0:
            trainer_at_8._save_checkpoint(trainer_at_8.model, None)
            assert find_whole_checkpoint(work) == (work / "checkpoint-9", [])
            assert {path.name for path in work.iterdir()} == {"checkpoint-9"}
    # Killed late, while older ones were deleted.
    assert found_new


def test_kill_while_a_whole_checkpoint_is_saved_again(trainer_at_8, finished, tmp_path, file_operations):
    start = tmp_path / "start"
    shutil.copytree(finished / "checkpoint-8", start / "checkpoint-8")
    trainer_at_8.args.save_total_limit = 1
    seen = set()
    for work in kill_everywhere(trainer_at_8, start, tmp_path / "run", file_operations, step=8):
        found, _ = find_whole_checkpoint(work)
        seen.add(found.name)
        check_whole(found)
    assert seen == {"checkpoint-8", "_superseded-checkpoint-8"}


def test_superseded_checkpoint_is_put_back(trainer_at_8, run_dir):
    (run_dir / "checkpoint-8").rename(run_dir / "_superseded-checkpoint-8")
    (run_dir / "checkpoint-8").mkdir()
    (run_dir / "checkpoint-8" / "config.json").write_text("{}")
    kept = run_dir / "_deleted-mine"  # a name like those of half-deleted checkpoints
    kept.mkdir()
    trainer = make_trainer(run_dir, max_steps=10)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 10
    assert {path.name for path in run_dir.iterdir()} == {kept.name, *(f"checkpoint-{n}" for n in (3, 6, 8, 9, 10))}
    check_whole(run_dir / "checkpoint-8")


# ---- Full disk ----


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes of a file fails, in Python as in the libraries: the error of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Verbose(RunTrainer):
    def run_state(self):
        return {"text": "x" * 40_000}


# The tiny model's files in the order of writing, each with a size that only those before it keep within: they have
# 10, 21, 28 and 40 kB.
LIMITS = {
    "model.safetensors": 9_000,
    "optimizer.safetensors": 15_000,
    "rng_state_0.json": 24_000,
    "run_state_0.json": 35_000,
}


@pytest.mark.parametrize("failing", LIMITS)
def test_full_disk_stops_the_run_and_keeps_what_is_whole(run_dir, failing, monkeypatch):
    trainer = make_trainer(run_dir, trainer_class=Verbose, max_steps=12, logging_strategy="no", save_total_limit=2)
    before = {path: path.stat().st_mtime_ns for path in run_dir.glob("*/*")}
    left, rmtree = set(), shutil.rmtree

    def look_and_remove(path, **options):
        left.update(item.name for item in Path(path).iterdir() if Path(path).name == "checkpoint-9")
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", look_and_remove)
    with largest_file(LIMITS[failing]), pytest.raises(CheckpointError) as raised:
        trainer.train(resume_from_checkpoint=True)
    last = f"The last whole checkpoint is {run_dir / 'checkpoint-8'}:"
    assert all(words in str(raised.value) for words in ("checkpoint-9 failed", "File too large", last))
    assert [name for name in LIMITS if name in left] == list(LIMITS)[: list(LIMITS).index(failing)]
    assert {path: path.stat().st_mtime_ns for path in run_dir.glob("*/*")} == before
    assert find_whole_checkpoint(run_dir) == (run_dir / "checkpoint-8", [])


def test_full_disk_at_the_first_save(tmp_path):
    with largest_file(9_000), pytest.raises(CheckpointError, match=r"There is no whole checkpoint in .* yet"):
        train(tmp_path, logging_strategy="no")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_at_the_final_model(run_dir):
    trainer = make_trainer(run_dir)
    with largest_file(9_000), pytest.raises(CheckpointError, match=r"The last whole checkpoint is .*checkpoint-8"):
        trainer.save_model()


def test_other_errors_are_left_as_they_are(tmp_path):
    class Faulty(RunTrainer):
        def run_state(self):
            return {"a": object()}

    with pytest.raises(TypeError, match="not JSON serializable"):
        train(tmp_path, trainer_class=Faulty)
    assert checkpoint_problem(tmp_path / "checkpoint-3") == "saving it was interrupted"


# ---- Rotation, the best model, the Hub ----


def save_at(trainer, step: int, run_dir: Path, limit: int, best: int | None = None) -> set[int]:
    trainer.args.output_dir, trainer.args.save_total_limit = str(run_dir), limit
    trainer.state.global_step = step
    trainer.state.best_model_checkpoint = None if best is None else str(run_dir / f"checkpoint-{best}")
    try:
        trainer._save_checkpoint(trainer.model, None)
    finally:
        trainer.state.best_model_checkpoint = None
    return steps_in(run_dir)


def test_rotation_deletes_the_oldest_and_broken_ones_first(trainer_at_8, run_dir):
    # As resumed from step 3 by name: what lies beyond was left behind.
    assert save_at(trainer_at_8, 4, run_dir, limit=3) == {3, 4, 8}
    assert save_at(trainer_at_8, 9, run_dir, limit=3, best=3) == {3, 8, 9}
    truncate(run_dir / "checkpoint-8")
    assert save_at(trainer_at_8, 10, run_dir, limit=3) == {3, 9, 10}
    assert save_at(trainer_at_8, 11, run_dir, limit=1, best=3) == {3, 11}
    assert save_at(trainer_at_8, 12, run_dir, limit=1) == {12}


def test_undeletable_checkpoint_does_not_stop_the_run(trainer_at_8, run_dir, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints, "_delete_checkpoint", refuse)
    assert save_at(trainer_at_8, 9, run_dir, limit=1) == {3, 6, 8, 9}


def test_best_model_is_found_again(tmp_path):
    trainer = train(
        tmp_path,
        eval_strategy="steps",
        eval_steps=3,
        learning_rate=1.0,
        optim="sgd",
        load_best_model_at_end=True,
        save_total_limit=1,
        metric_for_best_model="loss",
        greater_is_better=True,
    )
    best = trainer.state.best_model_checkpoint
    # The last stays, too: a run that is stopped goes on from there.
    assert steps_in(tmp_path) == {3, 8}
    # The loss falls, and the greatest counts: the first.
    assert best == str(tmp_path / "checkpoint-3")
    check_whole(best)
    assert_same_state(trainer.model.state_dict(), load_file(Path(best) / "model.safetensors"))


# What `init_hf_repo` sets, without a Hub.
HUB = {"hub_model_id": "someone/model", "push_in_progress": None}


class Upload:
    def __init__(self, uploads, slow):
        self.uploads, self.slow = uploads, slow

    def upload_folder(self, folder_path, **options) -> Future:
        folder = Path(folder_path)
        names = {path.name for path in folder.iterdir()}
        self.uploads.append((folder.name, options["path_in_repo"] if "path_in_repo" in options else None, names))
        assert options["token"] == "hf_secret"
        assert folder.name == "run" or checkpoint_problem(folder) is None
        future = Future()
        if folder.name not in self.slow:
            future.set_result(None)
        return future


def make_hub(monkeypatch, slow: tuple[str, ...] = ()) -> tuple[list, list]:
    """Uploads that are made, at once but for those of `slow`, and the clients that are made for them."""
    uploads, clients = [], []

    def make_client(library_name):
        clients.append(Upload(uploads, slow))
        return clients[-1]

    monkeypatch.setattr(run_trainer, "HfApi", make_client)
    monkeypatch.setattr(Trainer, "init_hf_repo", lambda self: self.__dict__.update(HUB))
    return uploads, clients


def test_uploads_wait_for_each_other(tmp_path, monkeypatch):
    uploads, clients = make_hub(monkeypatch)
    options = {"push_to_hub": True, "hub_token": "hf_secret", "hub_strategy": "all_checkpoints"}
    train(tmp_path / "run", **options)
    assert [where for _, where, _ in uploads] == [None, "checkpoint-3", None, "checkpoint-6", None, "checkpoint-8"]
    # A client makes its uploads one after the other.
    assert len(clients) == 1


def test_checkpoint_stays_as_long_as_its_upload_waits(tmp_path, monkeypatch):
    make_hub(monkeypatch, slow=("checkpoint-3",))
    monkeypatch.setattr(RunTrainer, "_finish_current_push", lambda self: None)
    options = {"push_to_hub": True, "hub_token": "hf_secret", "hub_strategy": "all_checkpoints"}
    train(tmp_path / "run", save_total_limit=1, save_steps=1, max_steps=5, **options)
    assert find_whole_checkpoint(tmp_path / "run")[0].name == "checkpoint-5"
    assert {path.name for path in checkpoint_folders(tmp_path / "run")} == {"checkpoint-3", "checkpoint-5"}


def test_push_of_whole_checkpoints_without_pickles(tmp_path, monkeypatch):
    uploads, _ = make_hub(monkeypatch)
    options = {"push_to_hub": True, "hub_token": "hf_secret", "hub_strategy": "checkpoint", "max_steps": 3}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "README.md").write_text("a card")
    trainer = train(tmp_path / "run", **options)
    assert trainer.hub_model_id == "someone/model"
    model_files = {"config.json", "model.safetensors", "training_args.json"}
    assert uploads[0] == ("run", None, model_files | {"checkpoint-3", "README.md"})
    assert uploads[1][:2] == ("checkpoint-3", "last-checkpoint")
    assert {"checkpoint.json", "optimizer.safetensors"} < uploads[1][2]
    assert (tmp_path / "run" / "README.md").read_text() == "a card"
    assert len(uploads) == 2


def test_a_damaged_state_of_the_run_is_not_taken_for_a_missing_one(tmp_path):
    """Without it a run would go on, with other random numbers and from other batches."""
    assert read_run_state(tmp_path) == {}
    (tmp_path / "run_state_0.json").write_text('{"world_size": 1, "sta')
    with pytest.raises(ValueError):
        read_run_state(tmp_path)
