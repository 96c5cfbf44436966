# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The pretraining script from end to end, on a little text of its own."""

import copy
import csv
import json
import logging
import math
import os
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import DROPOUT, LENGTH, TINY, WORDS, assert_bit_equal, command, history_of, state_of, write_rows
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, pipeline
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

import run_pretrain
from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.pretraining.data import length_stages
from modeling_gau.pretraining.model import longest_trained
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.locks import lock
from modeling_gau.text.arguments import DataArguments


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Takes the measurement of the peak and the figures from every run but that of `finished`."""
    monkeypatch.setattr("modeling_gau.runs.progress.measure_matmul_peak", lambda device, dtype: 1e11)
    monkeypatch.setattr("modeling_gau.runs.figures.is_matplotlib_available", lambda: False)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Twelve documents of sentences whose next word mostly follows from the one before."""
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    follows = {word: generator.sample(WORDS, 3) for word in WORDS}
    for i in range(12):
        word, sentence = "the", []
        for _ in range(400):
            sentence.append(word)
            word = generator.choice(follows[word])
        (folder / f"{i:02}.txt").write_text(" ".join(sentence) + ".")
    return folder


@pytest.fixture(scope="module")
def rows(text) -> Path:
    return write_rows(text.parent / "rows.jsonl")


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory) -> tuple[Path, dict[str, float], str]:
    """Output directory, metrics and printed text of one run."""
    output_dir = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *words, **kwargs: printed.append(" ".join(map(str, words))))
        metrics = run_pretrain.main(command(text, output_dir, eval_strategy="steps", eval_steps=3))
    return output_dir, metrics, "\n".join(printed)


def test_a_run_leaves_a_checkpoint_that_loads(finished):
    output_dir, metrics, _ = finished
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(output_dir), AutoTokenizer.from_pretrained(output_dir)
    assert isinstance(model, GAUForMaskedLM)
    config = model.config
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), tokenizer.pad_token_id)
    assert (config.reference_length, config.max_position_embeddings) == (LENGTH, LENGTH)
    assert config.num_hidden_layers == 2
    assert not config.sparse_prediction
    assert model.dtype == torch.float32
    assert tokenizer.decode(tokenizer("the old cat")["input_ids"]) == "[CLS] the old cat [SEP]"
    batch = tokenizer("the old [MASK] sees", return_tensors="pt")
    assert model(**batch, labels=batch["input_ids"]).logits.shape == (*batch["input_ids"].shape, len(tokenizer))
    assert metrics["train_parameters"] == model.num_parameters()
    assert metrics["train_parameters_without_embeddings"] == 2 * (32 * (2 * 64 + 16) + 64 * 32 + 4 * 16)
    assert len(pipeline("fill-mask", model=str(output_dir))("the old [MASK] sees")) == 5


def test_tokenizers_cut_texts_to_the_longest_row(finished):
    output_dir, *_ = finished
    for folder in (output_dir, output_dir / "checkpoint-3"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.model_max_length == LENGTH
        assert len(tokenizer("the old cat " * 50, truncation=True).input_ids) == LENGTH
        assert len(tokenizer("cat", padding="max_length").input_ids) == LENGTH


@pytest.mark.parametrize(
    ("lengths", "start", "limit", "expected"),
    [
        ({"max_seq_length": 24}, "new", None, 24),
        ({"max_seq_length": 24}, "new", 512, 24),  # another model's tokenizer
        ({"max_seq_length": 24, "mixed_lengths": [12, 24, 48]}, "new", None, 48),
        ({"max_seq_length": 24, "length_schedule": "24:0.5,96:0.5"}, "new", None, 96),
        ({"max_seq_length": 24}, "continued", None, 64),  # max_position_embeddings
        ({"max_seq_length": 24}, "continued", 48, 48),
        ({"max_seq_length": 96}, "continued", 48, 96),
        ({"max_seq_length": 24}, "resumed", 48, 48),
    ],
)
def test_the_longest_row_is_that_of_all_runs(tokenizer, lengths, start, limit, expected):
    data_args, config = DataArguments(**lengths), GAUConfig(max_position_embeddings=64)
    tokenizer = copy.copy(tokenizer)
    tokenizer.model_max_length = limit or VERY_LARGE_INTEGER
    named = {"new": {"config_name": "x"}, "continued": {"model_name_or_path": "x"}, "resumed": {}}
    model_args = ModelArguments(**named[start])
    checkpoint, stages = ("x" if start == "resumed" else None), length_stages(data_args)
    assert longest_trained(model_args, config, tokenizer, checkpoint, stages) == expected


def test_a_run_reports_what_it_did(finished):
    output_dir, metrics, printed = finished
    assert re.search(r"'mfu': '?0\.", printed)
    saved = {name: json.loads((output_dir / f"{name}_results.json").read_text()) for name in ("all", "train", "eval")}
    assert saved["all"] == saved["train"] | saved["eval"] == metrics
    assert 6 * 4 * (LENGTH - 1) < metrics["train_tokens"] <= 6 * 4 * LENGTH  # the last row of an epoch is shorter
    assert metrics["train_tokens_per_second"] > 0
    assert [entry["step"] for entry in history_of(output_dir) if "eval_loss" in entry] == [3, 6]
    assert {"README.md", "length_results.csv", "checkpoint-3", "checkpoint-6"} <= {
        p.name for p in output_dir.iterdir()
    }
    for path in output_dir.iterdir():
        assert path.name in printed
    assert "a second" in printed and "[MASK]" in printed
    card = (output_dir / "README.md").read_text()
    assert "| Schedule | linear |" in card and "Enum" not in card and "Names." not in card
    assert "pipeline_tag: fill-mask" in card and f"{metrics['eval_length_64_masked_tokens']}" in card


def test_the_table_of_lengths_asks_for_the_same_tokens(finished):
    output_dir, metrics, _ = finished
    with open(output_dir / "length_results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["length"] for row in table] == ["16", "32", "64"]
    assert len({row["masked_tokens"] for row in table}) == 1
    assert len({row["loss"] for row in table}) == 3
    for row in table:
        for name in ("sequences", "loss", "perplexity", "accuracy", "most_frequent_token_accuracy"):
            assert float(row[name]) == metrics[f"eval_length_{row['length']}_{name}"]
    assert metrics["eval_loss"] == metrics["eval_length_32_loss"]
    # The last evaluation in training saw the same tokens with the same weights, in batches of another size.
    last = [entry for entry in history_of(output_dir) if "eval_loss" in entry][-1]
    assert last["eval_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
    assert last["eval_accuracy"] == metrics["eval_accuracy"]


def test_the_model_learns(text, tmp_path):
    changes = {"max_steps": 100, "per_device_train_batch_size": 16, "warmup_steps": 0.1, "save_strategy": "no"}
    metrics = run_pretrain.main(command(text, tmp_path / "out", **changes))
    assert metrics["eval_accuracy"] > 2 * metrics["eval_most_frequent_token_accuracy"]


RUNS = {
    "documents": {
        "train_file": "rows",
        "packing": "documents",
        "mixed_lengths": "8 16 32",
        "gradient_accumulation_steps": 2,
        "whole_word_masking": True,
        "eval_strategy": "steps",
        "eval_steps": 3,
    },
    # 13 rows to an epoch, which are two batches and more.
    "epoch_boundary": {"max_seq_length": 96, "per_device_train_batch_size": 6, "max_train_samples": 3},
    "streaming": {"train_file": "rows", "streaming": True, "packing": "documents", "text_unit": "line"},
    "streaming_workers": {
        "train_file": "rows",
        "streaming": True,
        "dataloader_num_workers": 2,
        "max_eval_tokens": 300,
    },
    "schedule": {
        "length_schedule": "8+16:0.5,32:0.5:20000",
        "lr_scheduler_type": "warmup_stable_decay",
        "optim": "adafactor",
    },
    # A line of the log covers steps before and after a break.
    "log_window": {"train_file": "rows", "packing": "none", "logging_steps": 3},
}
BROKEN_ONCE = ("streaming_workers", "log_window")


@pytest.mark.parametrize("name", RUNS)
def test_resumed_runs_are_bit_equal(text, rows, tmp_path, name):
    changes = RUNS[name] | {"config_overrides": DROPOUT, "save_steps": 2}
    if changes.get("train_file") == "rows":
        changes["train_file"] = rows
    if name == "epoch_boundary":
        changes["eval_lengths"] = "96"
    whole = tmp_path / "whole"
    metrics = run_pretrain.main(command(text, whole, **changes))
    before = whole
    for step in (4,) if name in BROKEN_ONCE else (2, 4):  # twice in a row
        output_dir = tmp_path / f"from-{step}"
        shutil.copytree(before / f"checkpoint-{step}", output_dir / f"checkpoint-{step}")
        again = run_pretrain.main(command(text, output_dir, **changes, resume_from_checkpoint="last"))
        assert_bit_equal(output_dir, whole)
        for key in ("eval_loss", "eval_accuracy", "train_tokens", "train_padding"):
            assert again[key] == metrics[key]
        before = output_dir
    if name == "epoch_boundary":
        epochs = [entry["epoch"] for entry in history_of(whole) if "loss" in entry]
        # Resumed before the batch that belongs to two epochs, and in the second epoch.
        assert epochs[1] < 1 < epochs[2] < epochs[3] < 2 < epochs[4]


def test_evaluations_do_not_change_what_is_learnt(text, tmp_path):
    tensors = []
    for eval_steps in (2, None):
        changes = {"eval_strategy": "steps", "eval_steps": eval_steps} if eval_steps else {}
        output_dir = tmp_path / f"every-{eval_steps}"
        run_pretrain.main(command(text, output_dir, config_overrides=DROPOUT, save_steps=6, **changes))
        tensors.append(state_of(output_dir)[0])
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_stream_that_is_resumed_with_other_workers_is_refused(text, rows, tmp_path):
    changes = RUNS["streaming"] | {"train_file": rows, "max_steps": 2, "save_steps": 2}
    run_pretrain.main(command(text, tmp_path / "out", **changes))
    changes |= {"dataloader_num_workers": 1, "max_steps": 4, "resume_from_checkpoint": "last"}
    with pytest.raises(ValueError, match=r"stream cannot be resumed: .*1 process\(es\) of 1 worker"):
        run_pretrain.main(command(text, tmp_path / "out", **changes))


@pytest.mark.parametrize("options", [{"overwrite_output_dir": True}, {"resume_from_checkpoint": "auto"}, {}], ids=str)
def test_a_folder_has_one_run(text, tmp_path, options):
    with lock(tmp_path / "out"):
        with pytest.raises(ValueError, match=f"at work in .*out: process {os.getpid()} on "):
            run_pretrain.main(command(text, tmp_path / "out", **options))
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["_lock"]


def test_a_resumed_run_says_what_changed(finished, text, rows, tmp_path, capsys):
    checkpoint = finished[0] / "checkpoint-3"
    with pytest.raises(
        ValueError, match=r"with another training text and another validation text\..*--accept_changed_data"
    ):
        run_pretrain.main(command(text, tmp_path / "out", train_file=rows, resume_from_checkpoint=checkpoint))
    assert not (tmp_path / "out").exists()
    run_pretrain.main(
        command(
            text,
            tmp_path / "out",
            train_file=rows,
            resume_from_checkpoint=checkpoint,
            accept_changed_data=True,
            learning_rate=2e-3,
        )
    )
    printed = capsys.readouterr().out
    assert f"Changed since {checkpoint}: the training text." in printed
    assert f"Changed since {checkpoint}: learning_rate (0.01 there, 0.002 here)." in printed
    assert "an unbroken run may have given another model" in printed
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [entry["checkpoint"] for entry in record["resumed"]] == ["checkpoint-3"]


def test_a_resumed_run_may_leave_its_model_to_the_checkpoint(finished, text, tmp_path):
    output_dir, metrics, _ = finished
    argv = command(
        text,
        tmp_path / "out",
        config_name=None,
        config_overrides=None,
        vocab_size=90,
        resume_from_checkpoint=output_dir / "checkpoint-3",
    )
    assert run_pretrain.main(argv)["eval_loss"] == metrics["eval_loss"]


def test_resuming_another_model_is_refused(finished, text, tmp_path):
    checkpoint = finished[0] / "checkpoint-3"
    argv = command(text, tmp_path / "out", attention_normalization="softmax", resume_from_checkpoint=checkpoint)
    with pytest.raises(
        ValueError, match=r"another model .*attention_normalization \(softmax_plus there, softmax here\)"
    ):
        run_pretrain.main(argv)
    assert not (tmp_path / "out").exists()


def test_a_resumed_run_may_have_extended_its_vocabulary(finished, text, tmp_path):
    larger = AutoTokenizer.from_pretrained(finished[0])
    larger.add_tokens([f"new{number}" for number in range(7)])
    larger.save_pretrained(tmp_path / "larger")
    changes = {"config_name": None, "config_overrides": None, "model_name_or_path": finished[0]}
    changes |= {"max_steps": 4, "save_steps": 2, "tokenizer_name": tmp_path / "larger"}
    whole = run_pretrain.main(command(text, tmp_path / "whole", **changes))
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    for tokenizer_name in (tmp_path / "larger", None):
        changes |= {"resume_from_checkpoint": checkpoint, "tokenizer_name": tokenizer_name}
        output_dir = tmp_path / f"resumed-{tokenizer_name is None}"
        assert run_pretrain.main(command(text, output_dir, **changes))["eval_loss"] == whole["eval_loss"]
        assert AutoConfig.from_pretrained(output_dir).vocab_size == len(larger)


@pytest.mark.parametrize(
    ("config", "without", "message"),
    [
        ({"intermediate_size": 96}, None, r"model\.layers\.0\S+ \(\(.*\) there, \(.*\) here\)"),
        ({}, "model.layers.1", r"model\.layers\.1\S+ \(missing\)"),
        ({"tie_word_embeddings": False}, None, r"decoder\.weight \(missing\)"),
    ],
    ids=["shapes", "missing", "untied"],
)
def test_a_checkpoint_that_does_not_fit_is_refused(finished, text, tmp_path, config, without, message):
    misfit = tmp_path / "misfit"
    shutil.copytree(finished[0], misfit)
    fields = json.loads((misfit / "config.json").read_text()) | config
    (misfit / "config.json").write_text(json.dumps(fields))
    weights = load_file(misfit / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if without is None or not name.startswith(without)}
    save_file(kept, misfit / "model.safetensors", metadata={"format": "pt"})
    changes = {"config_name": None, "config_overrides": None, "model_name_or_path": misfit}
    with pytest.raises(ValueError, match=rf"checkpoint {misfit} do not fit.*{message}.*its own config\.json"):
        run_pretrain.main(command(text, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_texts_longer_than_rows_cause_no_warning(text, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    example = "the old cat sees the [MASK] " + "and the small dog " * 5
    run_pretrain.main(
        [*command(text, tmp_path / "out", max_seq_length=8, max_steps=1), "--fill_mask_example", example]
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 8
    assert "longer than the specified maximum" not in caplog.text


def test_pretraining_goes_on_from_a_model(finished, text, tmp_path):
    output_dir, metrics, _ = finished
    changes = {"config_name": None, "config_overrides": None, "model_name_or_path": output_dir, "learning_rate": 0}
    again = run_pretrain.main(command(text, tmp_path / "out", max_steps=1, **changes))
    assert again["eval_loss"] == metrics["eval_loss"]
    assert f"Fine-tuned from `{output_dir.name}`" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("trained", [False, True])
def test_token_types_that_nothing_trained_are_alike(finished, text, tmp_path, trained):
    """A new model ends with equal token types, and goes on with them; rows of their own stay as they are."""
    model = AutoModelForMaskedLM.from_pretrained(finished[0])
    types = model.model.embeddings.token_type_embeddings.weight
    assert types.any() and torch.equal(types[0], types[1])
    if trained:
        with torch.no_grad():
            types[1] += 1
    model.save_pretrained(tmp_path / "start")
    AutoTokenizer.from_pretrained(finished[0]).save_pretrained(tmp_path / "start")
    changes = {"config_name": None, "config_overrides": None, "model_name_or_path": tmp_path / "start"}
    run_pretrain.main(command(text, tmp_path / "out", max_steps=2, save_strategy="no", **changes))
    after = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").model.embeddings.token_type_embeddings.weight
    assert not torch.equal(after[0], types[0])
    torch.testing.assert_close(after[1], types[1] if trained else after[0], rtol=0.02, atol=0 if trained else 1e-9)


def test_overrides_of_the_user_stand(text, tmp_path):
    overrides = f"{TINY},reference_length=128,sparse_prediction=true,vocab_size=256"
    argv = command(text, tmp_path / "out", max_steps=1, config_overrides=overrides, fixed_n=20, bf16=True)
    run_pretrain.main([*argv, "--fill_mask_example", "the {mask} [MASK] sees"])
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.reference_length, config.max_position_embeddings) == (128, LENGTH)
    assert (config.vocab_size, config.sparse_prediction, config.fixed_n) == (256, True, 20)
    card = (tmp_path / "out" / "README.md").read_text()
    assert '"the {mask} " + fill_mask.tokenizer.mask_token + " sees"' in card  # braces are text


def test_lengths_that_a_configuration_states_stand(finished, text, tmp_path, capsys):
    output_dir, _, printed = finished
    lengths = f"max_position_embeddings={LENGTH}, reference_length={LENGTH}"
    assert re.search(rf"from the tokenizer and the row lengths: vocab_size=\d+, pad_token_id=0, {lengths}\.", printed)
    config = json.loads((output_dir / "config.json").read_text())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config | {"reference_length": 77}))
    run_pretrain.main(command(text, tmp_path / "out", config_name=tmp_path / "mine", max_seq_length=16, max_steps=1))
    saved = AutoConfig.from_pretrained(tmp_path / "out")
    assert (saved.reference_length, saved.max_position_embeddings) == (77, LENGTH)
    assert re.search(r"the row lengths: vocab_size=\d+, pad_token_id=0\.\n", capsys.readouterr().out)


def test_lengths_by_default_end_where_the_validation_text_ends(text, tmp_path, capsys):
    metrics = run_pretrain.main(command(text, tmp_path / "out", max_steps=1, eval_lengths=None, max_eval_tokens=300))
    lengths = {key.split("_")[2] for key in metrics if key.startswith("eval_length_")}
    assert lengths == {"32", "64", "128", "256"}
    assert (
        "No evaluation at length 512, 1024, 2048: the validation text has only 300 tokens." in capsys.readouterr().out
    )


def test_replacing_a_run_deletes_its_checkpoints(finished, text, tmp_path, capsys):
    output_dir = tmp_path / "out"
    shutil.copytree(finished[0], output_dir)
    (output_dir / "notes.txt").write_text("mine")
    run_pretrain.main(command(text, output_dir, max_steps=2, save_steps=2, overwrite_output_dir=True))
    names = {path.name for path in output_dir.iterdir()}
    assert "checkpoint-2" in names and "notes.txt" in names
    assert not {"checkpoint-3", "checkpoint-6"} & names
    assert "Deleted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config_name": None, "config_overrides": None}, "--config_name"),
        ({"config_overrides": "hiden_size=32"}, "Did you mean hidden_size"),
        ({"config_overrides": f"{TINY},vocab_size=50"}, "vocab_size of 50, less than"),
        ({"train_file": "nowhere.txt"}, "nowhere.txt"),
        (
            {"eval_lengths": "16 4096"},
            "--eval_lengths 4096: the validation text has only .* tokens.* Lower --eval_lengths to .*"
            "--validation_file, or raise --validation_split_percentage",
        ),
        (
            {"max_seq_length": 8000, "eval_lengths": None},
            "--max_seq_length 8000: the validation text has only .* tokens.* Lower --max_seq_length to .* or less",
        ),
        ({"config_name": "gau-tinny", "train_file": "nowhere.txt"}, "Did you mean gau-tiny"),
        ({"attn_implementation": "spda", "train_file": "nowhere.txt"}, '"spda"` is not supported'),
        ({"attn_implementation": "flex_attention", "train_file": "nowhere.txt"}, "does not train on a CPU"),
        ({"fill_mask_example": "nothing"}, "--fill_mask_example needs \\[MASK\\] exactly once"),
        ({"attention_normalization": "squared_relu", "attn_implementation": "sdpa"}, "sdpa"),
        ({"resume_from_checkpoint": "last"}, "has no checkpoint-\\* folder"),
        ({"prediction_loss_only": True}, "--prediction_loss_only is not supported"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_leaves_nothing_behind(text, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_pretrain.main(command(text, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("streaming", [None, True])
@pytest.mark.parametrize("content", ['{"text": " "}\n', "no JSON\n"])
def test_text_without_documents_is_refused_before_training(finished, rows, tmp_path, content, streaming):
    (tmp_path / "none.jsonl").write_text(content)
    changes = {"tokenizer_name": finished[0], "validation_file": rows, "validation_split_percentage": None}
    changes |= {"skip_bad_rows": True, "streaming": streaming}
    with pytest.raises(ValueError, match=r"none\.jsonl"):
        run_pretrain.main(command(tmp_path / "none.jsonl", tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_an_earlier_run_is_not_touched(finished, text):
    output_dir = finished[0]
    before = {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")}
    with pytest.raises(ValueError, match="holds an earlier run"):
        run_pretrain.main(command(text, output_dir))
    assert {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")} == before


# Other encoders


OTHER = "hidden_size=32,intermediate_size=64,num_hidden_layers=2,num_attention_heads=2"


def other_encoder(text: Path, output_dir: Path, model_type: str | None, **changes) -> list[str]:
    overrides = OTHER + (",embedding_size=32" if model_type == "roformer" else "") if model_type else None
    options = {"config_name": None, "model_type": model_type, "config_overrides": overrides, "max_steps": 2}
    options["eval_lengths"] = None  # those that the model can take
    return command(text, output_dir, **options | changes)


@pytest.mark.parametrize(
    ("model_type", "packing", "first_position"),
    [
        ("bert", "documents", 0),
        ("roformer", "concat", 0),
        ("modernbert", "concat", 0),
        ("roberta", "concat", 1),
    ],
)
def test_any_encoder_can_be_trained(text, tmp_path, model_type, packing, first_position):
    output_dir = tmp_path / "out"
    settings = {"packing": packing, "max_eval_tokens": 200, "gradient_accumulation_steps": 2}
    metrics = run_pretrain.main(other_encoder(text, output_dir, model_type, **settings))
    config = AutoConfig.from_pretrained(output_dir)
    assert config.model_type == model_type and config.num_hidden_layers == 2
    # Vocabulary and table of positions are up to the run; evaluation keeps within the table.
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(output_dir)) <= 120
    assert config.max_position_embeddings == LENGTH + first_position
    lengths = {key.split("_")[2] for key in metrics if key.startswith("eval_length_")}
    assert lengths == ({"32", "64", "128"} if model_type == "modernbert" else {"32"})
    assert 0 < metrics["eval_loss"] < 2 * math.log(120)
    assert metrics["train_tokens"] == json.loads((output_dir / "run.json").read_text())["totals"]["tokens"]


def test_encoders_that_do_not_keep_documents_apart_are_refused(text, tmp_path):
    with pytest.raises(ValueError, match=r"--packing documents: RoFormerForMaskedLM does not keep .* apart"):
        run_pretrain.main(other_encoder(text, tmp_path / "out", "roformer", packing="documents"))
    assert not (tmp_path / "out").exists()


def test_pretraining_of_another_encoder_goes_on(text, tmp_path):
    first = run_pretrain.main(other_encoder(text, tmp_path / "first", "bert"))
    changes = {"model_name_or_path": tmp_path / "first"}
    again = run_pretrain.main(other_encoder(text, tmp_path / "again", None, **changes, learning_rate=0))
    assert again["eval_loss"] == first["eval_loss"]
    with pytest.raises(ValueError, match="Rows of 64 tokens are too long for the model, which has positions for 32"):
        run_pretrain.main(other_encoder(text, tmp_path / "long", None, **changes, max_seq_length=64))
    # And a run that was stopped.
    resumed = tmp_path / "resumed"
    settings = {"max_steps": 4, "save_steps": 2, "learning_rate": 1e-3}
    whole = run_pretrain.main(other_encoder(text, tmp_path / "whole", "bert", **settings))
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", resumed / "checkpoint-2")
    settings["resume_from_checkpoint"] = "last"
    assert run_pretrain.main(other_encoder(text, resumed, None, **settings))["eval_loss"] == whole["eval_loss"]


# Several processes


def curve(output_dir: Path) -> list[tuple[int, float, float]]:
    return [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in history_of(output_dir) if "loss" in entry]


@pytest.mark.parametrize("mode", ["indexed", "streaming"])
def test_two_processes_do_what_one_does(text, tmp_path, in_two_processes, mode):
    settings = {"packing": "documents", "mixed_lengths": "8 16 32", "per_device_train_batch_size": 2}
    settings["cache_dir"] = tmp_path / "cache"  # empty: both processes want to make it
    settings |= {"streaming": True, "dataloader_num_workers": 1} if mode == "streaming" else {}
    printed = in_two_processes(run_pretrain.main, command(text, tmp_path / "two", **settings))
    assert printed.count("Masked-token prediction by length") == 1
    if mode == "indexed":
        assert_close_to_one_process(text, tmp_path, settings)
    # Resumed from its middle, the run is the same bit by bit.
    shutil.copytree(tmp_path / "two" / "checkpoint-3", tmp_path / "again" / "checkpoint-3")
    settings["resume_from_checkpoint"] = "last"
    in_two_processes(run_pretrain.main, command(text, tmp_path / "again", **settings))
    assert_bit_equal(tmp_path / "again", tmp_path / "two")


def assert_close_to_one_process(text: Path, tmp_path: Path, settings: dict) -> None:
    settings = settings | {"per_device_train_batch_size": 4, "save_strategy": "no"}
    one = run_pretrain.main(command(text, tmp_path / "one", **settings))
    two = json.loads((tmp_path / "two" / "all_results.json").read_text())
    for name in ("eval_loss", "eval_accuracy", "eval_length_16_loss", "eval_length_64_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)
    assert (two["eval_masked_tokens"], two["train_tokens"]) == (one["eval_masked_tokens"], one["train_tokens"])
    # The same rows and masks: only the order of sums in float32 differs.
    for ours, theirs in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
