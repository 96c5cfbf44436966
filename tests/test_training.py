# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Exact evaluation, masks that survive a resume, and the choice of the output directory."""

import json

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch.nn import functional as F
from transformers import EvalPrediction, PreTrainedTokenizerFast

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.glue import GlueTrainingArguments
from modeling_gau.training import (
    EpochMaskingCollator,
    MaskedLMTrainer,
    PretrainingArguments,
    find_checkpoint,
    masked_lm_metrics,
    masked_lm_row_totals,
    remove_checkpoints,
)


SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
VOCAB_SIZE = 40


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = [*SPECIAL.values(), "[MASK]", *(f"w{i}" for i in range(VOCAB_SIZE - 5))]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), mask_token="[MASK]", **SPECIAL)


def make_rows(lengths: list[int], seed: int = 0, masked: bool = True) -> Dataset:
    """Rows `[CLS] tokens [SEP]`; the share of labelled tokens differs from row to row, as it does in a corpus."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i, length in enumerate(lengths):
        ids = torch.randint(5, VOCAB_SIZE, (length,), generator=generator)
        ids[0], ids[-1] = 2, 3
        row = {"input_ids": ids.tolist(), "attention_mask": [1] * length}
        if masked:
            chosen = torch.rand(length, generator=generator) < 0.1 + 0.6 * (i % 3 == 0)
            row["labels"] = ids.where(chosen, -100).tolist()
        rows.append(row)
    return Dataset.from_list(rows)


def make_model(sparse: bool, dropout: float = 0.1, seed: int = 0) -> GAUForMaskedLM:
    torch.manual_seed(seed)
    # Weights far from their initialization: otherwise all logits are alike and a wrong metric looks right.
    return GAUForMaskedLM(
        GAUConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=32,
            intermediate_size=64,
            attention_key_size=16,
            num_hidden_layers=2,
            initializer_range=0.4,
            hidden_dropout_prob=dropout,
            sparse_prediction=sparse,
        )
    )


def make_trainer(output_dir, tokenizer, model, train_rows=None, saved_sparse_prediction=None, **kwargs):
    settings = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "save_strategy": "no"} | kwargs
    args = PretrainingArguments(output_dir=str(output_dir), **settings)
    return MaskedLMTrainer(
        model=model,
        args=args,
        tokenizer=tokenizer,
        data_collator=EpochMaskingCollator(tokenizer, seed=args.seed),
        train_dataset=train_rows,
        saved_sparse_prediction=saved_sparse_prediction,
    )


@torch.no_grad()
def let_the_model_be_right(model: GAUForMaskedLM, rows: Dataset) -> Dataset:
    """Every third row with the model's predictions for labels: rows then differ in loss, and the accuracy is not 0."""

    def relabel(row, i):
        if i % 3:
            return row
        guesses = model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0].argmax(-1)
        return row | {"labels": guesses.where(torch.tensor(row["labels"]) != -100, -100).tolist()}

    return rows.map(relabel, with_indices=True)


@torch.no_grad()
def plain_metrics(model: GAUForMaskedLM, rows: Dataset) -> tuple[float, float, int]:
    """Loss, accuracy and number of labelled tokens, one row at a time in float64."""
    model = model.eval()
    losses, hits = [], []
    for row in rows:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0].double()
        labels = torch.tensor(row["labels"])
        kept = labels != -100
        losses.append(F.cross_entropy(logits[kept], labels[kept], reduction="none"))
        hits.append(logits[kept].argmax(-1) == labels[kept])
    losses, hits = torch.cat(losses), torch.cat(hits)
    return losses.mean().item(), hits.double().mean().item(), len(hits)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 16], ids=lambda size: f"batch_{size}")
def test_evaluation_is_exact(tmp_path, tokenizer, sparse, batch_size):
    model = make_model(sparse)
    rows = let_the_model_be_right(model, make_rows([12, 12, 9, 12, 5, 12, 12, 7, 12, 12, 4]))
    loss, accuracy, count = plain_metrics(model, rows)
    assert 0.2 < accuracy < 0.9
    trainer = make_trainer(tmp_path, tokenizer, model, per_device_eval_batch_size=batch_size)
    metrics = trainer.evaluate(rows)
    assert metrics["eval_loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["eval_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert metrics["eval_perplexity"] == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-4)
    assert metrics["eval_masked_tokens"] == count
    # The data tell the exact loss from a mean over rows, and include rows without a label.
    row_means = torch.tensor([plain_metrics(model, rows.select([i]))[0] for i in range(len(rows))])
    assert row_means.isnan().any()
    assert abs(row_means.nanmean() - loss) > 0.05 * loss


def test_sparse_logits_belong_to_the_labels_in_reading_order():
    labels = torch.tensor([[-100, 3, -100], [1, -100, 2], [-100, -100, -100]])
    dense = torch.randn(3, 3, 5, generator=torch.Generator().manual_seed(0))
    totals = masked_lm_row_totals(dense, labels)
    torch.testing.assert_close(masked_lm_row_totals(dense[labels != -100], labels), totals)
    torch.testing.assert_close(masked_lm_row_totals((dense, "hidden states"), labels), totals)
    assert totals[:, 2].tolist() == [1, 2, 0]
    torch.testing.assert_close(totals[0, 0], F.cross_entropy(dense[0, 1], torch.tensor(3)))
    assert totals[2].tolist() == [0, 0, 0]


def test_totals_of_low_precision_logits_are_computed_in_float32():
    logits = (torch.randn(1, 4, 1000, generator=torch.Generator().manual_seed(0)) * 3).bfloat16()
    labels = torch.tensor([[5, 6, 7, 8]])
    expected = F.cross_entropy(logits[0].double(), labels[0], reduction="sum").float()
    torch.testing.assert_close(masked_lm_row_totals(logits, labels)[0, 0], expected, rtol=1e-5, atol=0)


def test_metrics_refuse_an_evaluation_without_labels_and_survive_divergence():
    with pytest.raises(ValueError, match="no labelled token"):
        masked_lm_metrics(EvalPrediction(torch.zeros(2, 3).numpy(), None))
    diverged = masked_lm_metrics(EvalPrediction(torch.tensor([[1e6, 0.0, 1.0]]).numpy(), None))
    assert diverged["perplexity"] == float("inf")


def test_length_evaluations_use_about_the_same_number_of_tokens_per_batch(tmp_path, tokenizer):
    model = make_model(sparse=True)
    trainer = make_trainer(
        tmp_path,
        tokenizer,
        model,
        per_device_eval_batch_size=5,
        dataloader_persistent_workers=True,
        dataloader_num_workers=1,
    )
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    datasets = {16: make_rows([16] * 3), 4: make_rows([4] * 20, seed=1), 64: make_rows([64] * 2, seed=2)}
    table = trainer.evaluate_lengths(datasets, tokens_per_batch=32)
    assert shapes == [(8, 4), (8, 4), (4, 4), (2, 16), (1, 16), (1, 64), (1, 64)]
    assert [row["length"] for row in table] == [4, 16, 64]
    assert [row["sequences"] for row in table] == [20, 3, 2]
    for row in table:
        loss, accuracy, count = plain_metrics(model, datasets[row["length"]])
        assert (row["loss"], row["accuracy"], row["masked_tokens"]) == pytest.approx((loss, accuracy, count), rel=1e-5)
    assert (trainer.args.per_device_eval_batch_size, trainer.args.dataloader_persistent_workers) == (5, True)


def test_masks_follow_from_seed_epoch_and_tokens(tokenizer):
    rows = [
        {key: row[key] for key in ("input_ids", "attention_mask")} for row in make_rows([64] * 8 + [20], masked=False)
    ]
    collator = EpochMaskingCollator(tokenizer, mlm_probability=0.5, seed=3)
    first = collator(rows)
    torch.rand(5)  # the global random state has no part in it
    again = EpochMaskingCollator(tokenizer, mlm_probability=0.5, seed=3)(rows)
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert torch.equal(first["labels"], again["labels"])
    original = collator.tokenizer.pad(rows, return_tensors="pt")["input_ids"]
    labelled = first["labels"] != -100
    assert torch.equal(first["labels"][labelled], original[labelled])
    assert 0.4 < labelled[original > 4].float().mean() < 0.6
    assert not labelled[original <= 4].any()
    assert 0.7 < (first["input_ids"][labelled] == tokenizer.mask_token_id).float().mean() < 0.9
    collator.epoch.fill_(1)
    assert not torch.equal(collator(rows)["labels"], first["labels"])
    assert not torch.equal(
        EpochMaskingCollator(tokenizer, mlm_probability=0.5, seed=4)(rows)["labels"], first["labels"]
    )
    with pytest.raises(ValueError, match="needs `seed`"):
        EpochMaskingCollator(tokenizer)


@pytest.mark.parametrize("workers", [0, 2], ids=["in_process", "persistent_workers"])
def test_epochs_differ_in_their_masks(tmp_path, tokenizer, workers):
    model = make_model(sparse=False)
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["labels"].clone()), with_kwargs=True
    )
    trainer = make_trainer(
        tmp_path,
        tokenizer,
        model,
        make_rows([32] * 4, masked=False),
        per_device_train_batch_size=4,
        num_train_epochs=3,
        train_sampling_strategy="sequential",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
    )
    trainer.train()
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("stop", [3, 4, 5], ids=["mid_epoch", "epoch_boundary", "after_it"])
def test_resumed_training_is_bit_equal(tmp_path, tokenizer, stop):
    # Epochs of four steps.
    rows = make_rows([24, 20] * 4, masked=False)
    settings = {
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
    }
    whole = make_trainer(tmp_path / "whole", tokenizer, make_model(sparse=True), rows, **settings)
    whole.train()
    for attempt in ("first", "second"):
        resumed = make_trainer(tmp_path / attempt, tokenizer, make_model(sparse=True, seed=9), rows, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(weight, resumed.model.state_dict()[name]), name
        assert losses(resumed) == losses(whole)
        states = [trainer.optimizer.state_dict()["state"] for trainer in (whole, resumed)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key]["exp_avg_sq"], states[1][key]["exp_avg_sq"]) for key in states[0])
        assert resumed.state.num_input_tokens_seen == whole.state.num_input_tokens_seen


def losses(trainer: MaskedLMTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_checkpoints_are_saved_with_their_own_sparse_prediction(tmp_path, tokenizer):
    rows = make_rows([16] * 4, masked=False)
    model = make_model(sparse=True)
    trainer = make_trainer(
        tmp_path,
        tokenizer,
        model,
        rows,
        saved_sparse_prediction=False,
        max_steps=1,
        save_strategy="steps",
        save_steps=1,
    )
    trainer.train()
    trainer.save_model()
    for path in (tmp_path, tmp_path / "checkpoint-1"):
        assert not GAUForMaskedLM.from_pretrained(path).config.sparse_prediction
    assert model.config.sparse_prediction


def test_a_push_keeps_the_model_card(tmp_path, tokenizer):
    trainer = make_trainer(tmp_path, tokenizer, make_model(sparse=True), make_rows([8] * 2, masked=False), max_steps=1)
    trainer.train()
    trainer.create_model_card(model_name="draft")
    assert "draft" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("---\nlibrary_name: transformers\n---\nours")
    trainer.create_model_card(model_name="draft")
    assert (tmp_path / "README.md").read_text().endswith("ours")


@pytest.mark.parametrize("name", ["prediction_loss_only", "batch_eval_metrics"])
def test_settings_that_take_the_metrics_away_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"--{name} is not supported"):
        PretrainingArguments(output_dir=str(tmp_path), **{name: True})


def arguments(output_dir, **kwargs) -> PretrainingArguments:
    return PretrainingArguments(output_dir=str(output_dir), use_cpu=True, report_to="none", **kwargs)


def make_checkpoint(path):
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 3}))


@pytest.mark.parametrize("arguments_class", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize("name", ["bf16", "bf16_full_eval"])
def test_bfloat16_without_an_accelerator_runs_on_the_cpu(tmp_path, monkeypatch, caplog, arguments_class, name):
    for check in ("torch.accelerator.is_available", "modeling_gau.training.is_torch_bf16_gpu_available"):
        monkeypatch.setattr(check, lambda: False)
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: False)
    args = arguments_class(output_dir=str(tmp_path), **{name: True})
    assert args.use_cpu and getattr(args, name) and args.device.type == "cpu"
    assert "bfloat16 is computed on the CPU" in caplog.text
    # An accelerator that cannot do it must not be left idle without a word.
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    with pytest.raises(ValueError, match="bf16"):
        arguments_class(output_dir=str(tmp_path), **{name: True})


def test_a_new_run_does_not_touch_an_earlier_one(tmp_path):
    assert find_checkpoint(arguments(tmp_path / "new")) is None
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("in nobody's way")
    assert find_checkpoint(arguments(tmp_path)) is None
    make_checkpoint(tmp_path / "interrupted" / "checkpoint-3")
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "config.json").write_text("{}")
    for name in ("interrupted", "finished"):
        with pytest.raises(ValueError, match=f"{name} holds an earlier run.*--resume_from_checkpoint last"):
            find_checkpoint(arguments(tmp_path / name))
        assert find_checkpoint(arguments(tmp_path / name, overwrite_output_dir=True)) is None
    with pytest.raises(ValueError, match="is a file"):
        find_checkpoint(arguments(tmp_path / "notes.txt"))


def test_resume_finds_the_newest_checkpoint_or_says_what_is_wrong(tmp_path):
    for step in (3, 12, 6):
        make_checkpoint(tmp_path / f"checkpoint-{step}")
    for wanted in ("last", "True"):
        found = find_checkpoint(arguments(tmp_path, resume_from_checkpoint=wanted))
        assert found == str(tmp_path / "checkpoint-12")
    named = str(tmp_path / "checkpoint-6")
    assert find_checkpoint(arguments(tmp_path, resume_from_checkpoint=named)) == named
    with pytest.raises(ValueError, match="has no checkpoint-\\* folder"):
        find_checkpoint(arguments(tmp_path / "empty", resume_from_checkpoint="last"))
    with pytest.raises(ValueError, match="checkpoint-7 is not a checkpoint of the Trainer"):
        find_checkpoint(arguments(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-7")))
    with pytest.raises(ValueError, match="keep one"):
        find_checkpoint(arguments(tmp_path, resume_from_checkpoint="last", overwrite_output_dir=True))


def test_only_checkpoints_of_the_trainer_are_removed(tmp_path, capsys):
    make_checkpoint(tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-of-mine").mkdir()
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "README.md").write_text("kept")
    remove_checkpoints(arguments(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "checkpoint-9", "checkpoint-of-mine"]
    assert "Deleted" in capsys.readouterr().out
