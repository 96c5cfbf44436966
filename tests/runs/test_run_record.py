# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The record of a run: whole at any moment, without secrets, and a means to see what changed."""

import copy
import json
import os
from pathlib import Path

import pytest

from modeling_gau import GAUConfig
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.run_record import (
    PACKAGES,
    RECORD_NAME,
    RunRecord,
    check_resumed,
    check_resumed_files,
    compare_runs,
    describe_arguments,
    describe_precision,
    describe_run,
)
from modeling_gau.text.arguments import DataArguments


CLASSES = (ModelArguments, DataArguments, PretrainingArguments)
DATA = {"train": "1a", "validation": "2b", "tokenizer": "3c"}
SECRET = "hf_ThisIsNobodysBusiness"
ARGS = PretrainingArguments(use_cpu=True)


def describe(tmp_path, *options: str) -> dict:
    argv = ["--config_name", "gau-tiny", "--output_dir", str(tmp_path), "--use_cpu", *options]
    *parts, args = parse_arguments(CLASSES, argv)
    return describe_run(parts, args, GAUConfig(), DATA)


def test_a_description_is_json_and_says_what_the_run_is(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/run_pretrain.py", "--max_steps", "7"])
    description = describe(tmp_path, "--max_steps", "7", "--mixed_lengths", "64", "512")
    assert json.loads(json.dumps(description)) == description
    assert description["command"] == ["run_pretrain.py", "--max_steps", "7"]
    arguments = description["arguments"]
    assert (arguments["max_steps"], arguments["mixed_lengths"], arguments["config_name"]) == (7, [64, 512], "gau-tiny")
    assert arguments["lr_scheduler_type"] == "linear" and arguments["optim"] == "adamw_torch_fused"
    assert description["model"]["model_type"] == "gau" and description["model"]["hidden_size"] == 768
    assert description["data"] == DATA and description["world_size"] == 1
    assert description["software"].keys() == {*PACKAGES, "python"}
    assert all(description["software"][name] for name in ("torch", "transformers", "python"))
    hardware = description["hardware"]
    assert (hardware["device"], hardware["processes"]) == ("cpu", 1) and hardware["cores"] >= 1


@pytest.mark.parametrize(
    "options, weights, precision",
    [
        ([], None, "fp32"),
        (["--bf16"], "float32", "bf16"),
        ([], "bfloat16", "bf16, weights in bf16"),
        (["--bf16"], "float16", "bf16, weights in fp16"),
    ],
)
def test_the_precision_is_that_which_was_computed(tmp_path, options, weights, precision):
    record = describe(tmp_path, *options)
    record["model"]["dtype"] = weights
    assert describe_precision(record) == precision
    del record["mixed_precision"]  # a record of an earlier version
    assert describe_precision(record) == precision
    record["arguments"] |= {"fp16": True, "bf16": False}
    assert describe_precision(record).startswith("fp32" if weights in (None, "float32") else precision[-4:])


@pytest.mark.parametrize(
    "words",
    [
        ["--token", SECRET],
        [f"--token={SECRET}"],
        ["--hub_token", SECRET, "--push_to_hub"],
        [f"--hub_token={SECRET}"],
        ["--hub-token", SECRET],
        [f"--hub-token={SECRET}"],
        ["--max_steps", "7", "--token", SECRET, "--hub_token", SECRET],
    ],
    ids=" ".join,
)
def test_secrets_are_never_written(tmp_path, monkeypatch, words):
    monkeypatch.setattr("sys.argv", ["run_pretrain.py", *words])
    description = describe(tmp_path, *words)
    RunRecord(tmp_path, description, None).write()
    assert SECRET not in (tmp_path / RECORD_NAME).read_text()
    # The rest of the command line is there.
    assert [word for word in description["command"] if word.startswith("--")] == [
        f"{name}=…" if "=" in word else name
        for word in words
        if word.startswith("--")
        for name in [word.partition("=")[0]]
    ]


def test_words_that_only_look_like_secrets_stay(tmp_path, monkeypatch):
    words = ["--tokenizer_name", "mine", "--max_eval_tokens=300", "--fill_mask_example", "a --token"]
    monkeypatch.setattr("sys.argv", ["run_pretrain.py", *words])
    assert describe(tmp_path)["command"] == ["run_pretrain.py", *words]


# Comparison


def test_where_and_how_fast_a_run_is_made_does_not_count(tmp_path, capsys):
    options = ("--logging_steps", "3", "--dataloader_num_workers", "2", "--report_to", "none", "--save_steps", "7")
    options += ("--gradient_checkpointing", "--logging_nan_inf_filter", "--token", SECRET)
    before, after = describe(tmp_path), describe(tmp_path / "elsewhere", *options)
    assert compare_runs(json.loads(json.dumps(before)), after) == {}
    # What changes evaluations counts for a study, but not for what a resumed run learns.
    evaluated = describe(tmp_path, "--bf16_full_eval", "--eval_steps", "3")
    assert compare_runs(before, evaluated).keys() >= {"bf16_full_eval", "eval_steps"}
    for now in (after, evaluated):
        check_resumed("checkpoint-3", before, now, ARGS)
    assert capsys.readouterr().out == ""


def test_how_often_a_run_saves_counts_where_the_best_checkpoint_is_kept(tmp_path):
    best = ("--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "100", "--save_steps")
    before, after = describe(tmp_path, *best, "100"), describe(tmp_path, *best, "500")
    assert compare_runs(before, after) == {"save_steps": "save_steps (100 there, 500 here)"}


def test_differences_are_named_with_both_values(tmp_path, capsys):
    options = ("--learning_rate", "1e-3", "--packing", "documents", "--mixed_lengths", "64", "512", "--bf16")
    before, after = describe(tmp_path), describe(tmp_path, *options, "--attention_normalization", "softmax")
    after["world_size"] = 4
    del before["arguments"]["seed"]  # as if that were an option of newer versions
    recipe = [
        "bf16 (False there, True here)",
        "learning_rate (None there, 0.001 here)",
        "mixed_lengths (None there, [64, 512] here)",
        "number of processes (1 there, 4 here)",
        "packing (concat there, documents here)",
    ]
    found = compare_runs(before, after)
    assert list(found.values()) == ["attention_normalization (None there, softmax here)", *recipe]
    # A resumed run compares the model itself.
    check_resumed("checkpoint-3", before, after, ARGS)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [f"Changed since checkpoint-3: {text}." for text in recipe] and "unbroken run" in last


def test_paths_and_contents_of_files_are_compared(tmp_path):
    (tmp_path / "train.txt").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path)
    files = {"contents of train": tmp_path / "train.txt", "weights": tmp_path / "missing"}

    def described(path: str) -> dict:
        parts = (DataArguments(train_file=[path]),)
        return describe_arguments(parts, PretrainingArguments(use_cpu=True), files)

    before = described(str(tmp_path / "train.txt"))
    assert before["contents"].keys() == {"contents of train"}
    for path in (str(tmp_path / "link" / "train.txt"), "train.txt"):
        assert compare_runs(before, described(path), tmp_path) == {}
    assert compare_runs(before, described("other.txt"), tmp_path).keys() == {"train_file"}
    (tmp_path / "train.txt").write_text("other text")
    assert compare_runs(before, described("train.txt"), tmp_path).keys() == {"contents of train"}


def test_a_record_without_arguments_is_nobodys(tmp_path):
    assert list(compare_runs({"status": "finished"}, describe(tmp_path)).values()) == [
        "its run.json does not say what it was made with"
    ]


@pytest.mark.parametrize(
    ("key", "name"), [("train", "training text"), ("validation", "validation text"), ("tokenizer", "tokenizer")]
)
def test_other_data_is_refused_unless_meant(tmp_path, key, name, capsys):
    before = describe(tmp_path)
    after = copy.deepcopy(before)
    after["data"][key] = "other"
    with pytest.raises(ValueError, match=f"checkpoint-3 was trained with another {name}.*--accept_changed_data"):
        check_resumed("checkpoint-3", before, after, ARGS)
    check_resumed("checkpoint-3", before, after, PretrainingArguments(use_cpu=True, accept_changed_data=True))
    assert capsys.readouterr().out == f"Changed since checkpoint-3: the {name}.\n"


def test_other_content_of_a_streams_files_is_refused(tmp_path):
    before = describe(tmp_path)
    before["data"]["contents of the files"] = "1"
    after = copy.deepcopy(before)
    check_resumed("checkpoint-3", before, after, ARGS)
    after["data"]["contents of the files"] = "2"
    with pytest.raises(ValueError, match=r"with another content of its files\. .*--accept_changed_data"):
        check_resumed("checkpoint-3", before, after, ARGS)
    del before["data"]["contents of the files"]  # an earlier version wrote the checkpoint
    check_resumed("checkpoint-3", before, after, ARGS)


def test_files_of_a_resumed_fine_tuning_are_compared(tmp_path):
    now = {"contents": {"contents of train": "1", "contents of test": "2", "weights of the checkpoint": "3"}}
    checkpoint = str(tmp_path / "checkpoint-3")
    for record in ({"contents": now["contents"]}, {}, {"contents": []}, [], {"contents": {"contents of test": "4"}}):
        (tmp_path / "run.json").write_text(json.dumps(record))
        check_resumed_files(checkpoint, now)
    (tmp_path / "run.json").write_text(json.dumps({"contents": {"contents of train": "5"}}))
    with pytest.raises(ValueError, match=r"trained with other files: contents of train \(5 there, 1 here\)\. Resume"):
        check_resumed_files(checkpoint, now)


# The file


def read(folder: Path) -> dict:
    return json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))


def test_a_record_is_written_and_goes_on(tmp_path):
    folder = tmp_path / "new" / "run"
    record = RunRecord(folder, {"command": ["é"]}, None)
    assert not folder.exists()
    record.write()
    first = read(folder)
    assert (first["status"], first["command"]) == ("running", ["é"]) and "resumed" not in first
    record.write(status="finished", results={"loss": 1.5}, path=Path("a"))
    assert read(folder) == first | {
        "status": "finished",
        "results": {"loss": 1.5},
        "path": "a",
        "updated": read(folder)["updated"],
    }
    assert [path.name for path in folder.iterdir()] == [RECORD_NAME]
    # Other readers refuse numbers that JSON has no word for.
    record.write(results={"loss": float("nan"), "perplexity": float("inf")})
    assert read(folder)["results"] == {"loss": "NaN", "perplexity": "Infinity"}


def test_a_resumed_run_remembers_its_beginning(tmp_path):
    record = RunRecord(tmp_path, {"command": ["first"]}, None)
    record.content["started"] = "2020-01-01T00:00:00+00:00"
    record.write(status="interrupted")
    for number, step in enumerate((3, 6), 1):
        record = RunRecord(tmp_path, {"command": ["again"]}, f"{tmp_path}/checkpoint-{step}")
        record.write()
        content = read(tmp_path)
        assert (content["started"], content["status"]) == ("2020-01-01T00:00:00+00:00", "running")
        assert [entry["checkpoint"] for entry in content["resumed"]] == ["checkpoint-3", "checkpoint-6"][:number]
        assert content["command"] == ["again"]


@pytest.mark.parametrize("left", [None, "", '{"started": ', "no JSON"])
def test_a_resumed_run_without_a_record_begins_one(tmp_path, left):
    if left is not None:
        (tmp_path / RECORD_NAME).write_text(left)
    RunRecord(tmp_path, {}, "elsewhere/checkpoint-3").write()
    content = read(tmp_path)
    assert [entry["checkpoint"] for entry in content["resumed"]] == ["checkpoint-3"] and content["started"]


def test_a_record_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    record = RunRecord(tmp_path, {"command": []}, None)
    record.write()
    before = (tmp_path / RECORD_NAME).read_bytes()

    def fill_the_disk(descriptor):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        record.write(status="finished", results=list(range(1000)))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_NAME]
    assert (tmp_path / RECORD_NAME).read_bytes() == before
    record.write()
    assert read(tmp_path)["status"] == "finished"
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_NAME]
