# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The record of a run: whole at any moment, without secrets, and a means to see what changed."""

import copy
import json
import os
from dataclasses import fields
from pathlib import Path

import pytest

from modeling_gau import GAUConfig
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.run_record import PACKAGES, RECIPE, RECORD_NAME, RunRecord, changes, describe_run
from modeling_gau.text.arguments import DataArguments


CLASSES = (ModelArguments, DataArguments, PretrainingArguments)
DATA = {"train": "1a", "validation": "2b", "tokenizer": "3c"}
SECRET = "hf_ThisIsNobodysBusiness"


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


# What changed


def test_nothing_changed(tmp_path):
    before = describe(tmp_path)
    after = describe(tmp_path, "--logging_steps", "3", "--dataloader_num_workers", "2", "--report_to", "none")
    assert changes(json.loads(json.dumps(before)), after) == {"data": [], "recipe": []}


@pytest.mark.parametrize(
    ("key", "name"), [("train", "training text"), ("validation", "validation text"), ("tokenizer", "tokenizer")]
)
def test_changed_data_is_named(tmp_path, key, name):
    before = describe(tmp_path)
    after = copy.deepcopy(before)
    after["data"][key] = "other"
    assert changes(before, after) == {"data": [name], "recipe": []}


def test_a_changed_recipe_is_named_with_both_values(tmp_path):
    before = describe(tmp_path)
    after = describe(
        tmp_path, "--learning_rate", "1e-3", "--packing", "documents", "--mixed_lengths", "64", "512", "--bf16"
    )
    after["world_size"] = 4
    assert changes(before, after) == {
        "data": [],
        "recipe": [
            "bf16 (False there, True here)",
            "learning_rate (5e-05 there, 0.001 here)",
            "mixed_lengths (None there, [64, 512] here)",
            "packing (concat there, documents here)",
            "number of processes (1 there, 4 here)",
        ],
    }


def test_every_name_of_the_recipe_is_an_argument():
    names = {field.name for cls in CLASSES for field in fields(cls)}
    assert set(RECIPE) <= names
    assert list(RECIPE) == sorted(set(RECIPE))


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
