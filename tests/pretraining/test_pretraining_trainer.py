# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Exact evaluation, steps that do not depend on how they are divided, and the choice of the output directory."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EvalPrediction,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    RoFormerConfig,
    RoFormerForMaskedLM,
)

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.pretraining.trainer import (
    MaskedLMTrainer,
    PretrainingArguments,
    check_packing,
    masked_lm_loss,
    masked_lm_metrics,
    masked_lm_row_totals,
)
from modeling_gau.runs.checkpoints import find_checkpoint
from modeling_gau.runs.progress import ModelFlops
from modeling_gau.text.batches import (
    BatchMaker,
    BatchShape,
    IndexedBatches,
    LengthPlan,
    Stage,
    TrainingLoader,
    all_lengths,
    parse_length_schedule,
)
from modeling_gau.text.masking import Masking
from modeling_gau.unpadding_gau import same_document


VOCAB_SIZE = 60  # of the shared tokenizer and model


def make_rows(lengths: list[int], seed: int = 0) -> Dataset:
    """Masked rows `[CLS] tokens [SEP]`; the share of labelled tokens differs from row to row, as in a corpus."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i, length in enumerate(lengths):
        ids = torch.randint(5, VOCAB_SIZE, (length,), generator=generator)
        ids[0], ids[-1] = 2, 3
        chosen = torch.rand(length, generator=generator) < 0.1 + 0.6 * (i % 3 == 0)
        labels = ids.where(chosen, -100).tolist()
        rows.append({"input_ids": ids.tolist(), "attention_mask": [1] * length, "labels": labels})
    return Dataset.from_list(rows)


def make_loader(
    tokenizer, args, pages=8, stages: tuple[Stage, ...] = (Stage((16,), (1.0,)),), apart: bool = False
) -> TrainingLoader:
    """Batches of random pages, half of which are full."""
    plan = LengthPlan(stages, args.max_steps, args.seed)
    generator, longest = np.random.default_rng(0), all_lengths(plan.stages)[-1]
    contents = [
        [generator.integers(5, VOCAB_SIZE, longest - 2 if page % 2 else longest - 5, dtype=np.int32)]
        for page in range(pages)
    ]
    if apart:
        contents = [np.split(page[0], [longest // 3]) for page in contents]
        contents = [[one[:-2], other] for one, other in contents]
    maker = BatchMaker(Masking(tokenizer, 0.3), longest, apart, fixed_shape=True, seed=args.seed)
    shape = BatchShape(plan, args.train_batch_size * longest, args.gradient_accumulation_steps, 0, 1, args.max_steps)
    return TrainingLoader(IndexedBatches(contents, maker, shape), num_workers=args.dataloader_num_workers)


@pytest.fixture(scope="module")
def gau(make_model) -> Callable:
    """`gau(sparse=True, dropout=0.1, seed=0)`: a model of two layers."""

    def make(sparse: bool = True, dropout: float = 0.1, seed: int = 0) -> GAUForMaskedLM:
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return make_model(seed=seed, num_hidden_layers=2, sparse_prediction=sparse, **rates)

    return make


def make_trainer(output_dir, tokenizer, model, loader_options=None, trainer_options=None, **kwargs):
    settings = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "save_strategy": "no", "max_steps": 1}
    args = PretrainingArguments(output_dir=str(output_dir), **(settings | kwargs))
    loader = make_loader(tokenizer, args, **(loader_options or {}))
    return MaskedLMTrainer(model=model, args=args, tokenizer=tokenizer, loader=loader, **(trainer_options or {}))


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
@pytest.mark.parametrize("batch_size", [1, 4, 16], ids=lambda size: f"batch_{size}")
def test_evaluation_is_exact(tmp_path, tokenizer, gau, sparse, batch_size):
    model = gau(sparse)
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


def test_length_evaluations_use_about_the_same_number_of_tokens_per_batch(tmp_path, tokenizer, gau):
    model = gau()
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


# Steps


def test_the_loss_is_a_sum_over_the_labels_of_a_step():
    logits = torch.randn(2, 6, VOCAB_SIZE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([[7, -100, 9, -100, -100, 3], [-100, -100, -100, -100, 8, -100]])
    mean = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(masked_lm_loss({"logits": logits}, labels), mean)
    torch.testing.assert_close(masked_lm_loss({"logits": logits}, labels, 16), mean * 4 / 16)
    torch.testing.assert_close(
        masked_lm_loss({"logits": logits.bfloat16()}, labels, torch.tensor(4)), mean, rtol=1e-2, atol=0
    )
    nothing = masked_lm_loss({"logits": logits}, torch.full((2, 6), -100), torch.tensor(0))
    nothing.backward()
    assert nothing == 0 and not logits.grad.any()


SPECIAL_IDS = {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
ENCODERS = {
    "gau_sparse": lambda gau: gau(dropout=0.0),
    "gau_dense": lambda gau: gau(sparse=False, dropout=0.0),
    "roformer": lambda gau: RoFormerForMaskedLM(RoFormerConfig(embedding_size=32, **other_sizes())),
    "modernbert_sparse": lambda gau: ModernBertForMaskedLM(
        ModernBertConfig(**other_sizes(), **SPECIAL_IDS, sparse_prediction=True)
    ),
}


def other_sizes(**changes) -> dict:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return {"vocab_size": VOCAB_SIZE, "max_position_embeddings": 64, **sizes, **no_dropout, **changes}


def make_bert(kind: type = BertForMaskedLM, **changes) -> BertForMaskedLM:
    return kind(BertConfig(**other_sizes(**changes)))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_accumulated_batches_make_the_step_of_a_whole_one(tmp_path, tokenizer, gau, encoder):
    trained = []
    for batch, accumulation in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        trainer = make_trainer(
            tmp_path / str(batch),
            tokenizer,
            ENCODERS[encoder](gau),
            {"pages": 20},
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=3,
            logging_steps=1,
            learning_rate=1e-2,
        )
        trainer.train()
        trained.append(trainer)
    for name in ("loss", "grad_norm", "masked_loss", "masked_accuracy", "padding"):
        whole, parts = ([entry[name] for entry in one.state.log_history if "loss" in entry] for one in trained)
        assert parts == pytest.approx(whole, rel=1e-4), name
    whole, parts = (one.model.state_dict() for one in trained)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=2e-4)


def test_what_is_logged_of_a_step(tmp_path, tokenizer, gau):
    model = gau(dropout=0.0)
    flops = ModelFlops(model.config, 0.3)
    stages = (Stage((8, 16), (1.0, 1.0)),)
    settings = {"max_steps": 12, "logging_steps": 4, "per_device_train_batch_size": 4}
    trainer = make_trainer(tmp_path, tokenizer, model, {"stages": stages}, {"flops": flops}, **settings)
    batches = list(make_loader(tokenizer, trainer.args, stages=stages))
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [4, 8, 12]
    for number, entry in enumerate(logs):
        seen = batches[4 * number : 4 * number + 4]
        positions = [batch["input_ids"].numel() for batch in seen]
        tokens = sum(int(batch.get("attention_mask", torch.ones_like(batch["input_ids"])).sum()) for batch in seen)
        lengths = [batch["input_ids"].shape[1] for batch in seen]
        assert entry["padding"] == pytest.approx(1 - tokens / sum(positions))
        assert entry["row_length"] == pytest.approx(np.average(lengths, weights=positions))
        assert 0 <= entry["masked_accuracy"] <= 1 and entry["tokens_per_second"] > 0 and 0 < entry["mfu"] < 1
        # Both are what was done in the same time.
        done = sum(flops.row(length) * size / length for length, size in zip(lengths, positions, strict=True))
        seconds = tokens / entry["tokens_per_second"]
        assert entry["mfu"] == pytest.approx(done / seconds / trainer.speed.peak, rel=0.02)
    # At a learning rate of nothing, what is logged is that of the untrained model, on [MASK] alone.
    model.load_state_dict(first)
    trainer = make_trainer(tmp_path, tokenizer, model, {"stages": stages}, **settings | {"learning_rate": 0.0})
    trainer.train()
    totals, counts = {"masked_accuracy": 0.0, "masked_loss": 0.0}, []
    for batch in batches:
        labelled = batch["labels"] != -100
        is_mask = (batch["input_ids"] == tokenizer.mask_token_id)[labelled]
        targets = batch["labels"][labelled][is_mask]
        logits = model(**{name: batch[name] for name in batch}).logits[is_mask]
        totals["masked_accuracy"] += (logits.argmax(-1) == targets).sum().item()
        totals["masked_loss"] += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        counts.append((len(targets), int(labelled.sum())))
    masked, labelled = np.array(counts).T
    assert masked.sum() < 0.95 * labelled.sum()  # the others are visible or random
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name, total in totals.items():
        logged = np.average([entry[name] for entry in logs], weights=np.add.reduceat(masked, [0, 4, 8]))
        assert logged == pytest.approx(total / masked.sum(), rel=1e-5)


def first_inputs(tmp_path, tokenizer, model) -> dict[str, torch.Tensor]:
    seen = []
    model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    make_trainer(tmp_path, tokenizer, model, {"apart": True}, per_device_train_batch_size=2, max_steps=1).train()
    return seen[0]


def test_documents_of_a_row_are_trained_apart(tmp_path, tokenizer, gau):
    """A GAU model gets the documents of a batch; others get their mask."""
    documents = first_inputs(tmp_path, tokenizer, gau())
    assert documents.get("attention_mask") is None and documents["document_ids"].shape == (2, 16)
    assert ((documents["position_ids"] == 0).sum(-1) == documents["document_ids"].max(-1).values).all()
    by_mask = first_inputs(tmp_path, tokenizer, make_bert())
    assert by_mask.get("document_ids") is None and torch.equal(by_mask["position_ids"], documents["position_ids"])
    assert torch.equal(by_mask["attention_mask"], same_document(documents["document_ids"]))
    assert documents["document_ids"].max() > 1


SMALL_WEIGHTS = {"num_hidden_layers": 2, "hidden_size": 64, "vocab_size": VOCAB_SIZE}


@pytest.mark.parametrize(
    "make",
    [
        lambda gau: gau(sparse=False),
        lambda gau: GAUForMaskedLM(GAUConfig(**SMALL_WEIGHTS)),
        lambda gau: GAUForMaskedLM(GAUConfig(**SMALL_WEIGHTS)).bfloat16(),
        lambda gau: make_bert(),
        lambda gau: make_bert(initializer_range=0.3),
    ],
    ids=["gau_large_weights", "gau", "gau_bfloat16", "bert", "bert_large_weights"],
)
def test_models_that_keep_documents_apart(tokenizer, gau, make):
    model = make(gau).train()
    dtype = model.dtype
    check_packing(model, tokenizer)
    assert model.training and model.dtype == dtype


class Deaf(BertForMaskedLM):
    """Takes a mask of documents and pays it no attention."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return super().forward(input_ids=input_ids, **kwargs)


class Narrow(BertForMaskedLM):
    """Takes no positions."""

    def forward(self, input_ids=None, attention_mask=None):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: RoFormerForMaskedLM(RoFormerConfig(embedding_size=32, **other_sizes())), "their logits change"),
        (lambda: make_bert(Narrow), "it rejects such a row .*position_ids"),
        # Adds a boolean mask to the scores.
        (
            lambda: BertForMaskedLM._from_config(BertConfig(**other_sizes()), attn_implementation="eager"),
            "logits change",
        ),
        (lambda: make_bert(Deaf), "their logits change"),
        (lambda: make_bert(Deaf, initializer_range=0.3), "their logits change"),
        (lambda: RobertaForMaskedLM(RobertaConfig(**other_sizes(), pad_token_id=0)), "their logits change"),
    ],
    ids=["roformer", "narrow", "bert_eager", "deaf", "deaf_large_weights", "roberta"],
)
def test_models_that_do_not_keep_documents_apart(tokenizer, make, problem):
    torch.manual_seed(0)
    with pytest.raises(
        ValueError, match=rf"--packing documents: \w+ does not keep .*{problem}.*--packing concat or none"
    ):
        check_packing(make(), tokenizer)


def test_a_stage_changes_the_rope_base(tmp_path, tokenizer, gau):
    stages = parse_length_schedule("8:0.5,16:0.5:40000")
    settings = {"max_steps": 4, "logging_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path, tokenizer, gau(), {"stages": stages}, **settings)
    bases = []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: bases.append(
            (kwargs["input_ids"].shape[1], module.config.rope_parameters["rope_theta"])
        ),
        with_kwargs=True,
    )
    trainer.train()
    assert bases == [(8, 10000.0)] * 2 + [(16, 40000.0)] * 2
    saved = [
        GAUForMaskedLM.from_pretrained(tmp_path / f"checkpoint-{step}").config.rope_parameters["rope_theta"]
        for step in (1, 2, 3, 4)
    ]
    assert saved == [10000.0, 10000.0, 40000.0, 40000.0]
    # A model that is resumed begins with the base of its configuration; also where no step is left to do.
    for step in (2, 3, 4):
        resumed = make_trainer(tmp_path / str(step), tokenizer, gau(), {"stages": stages}, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.model.config.rope_parameters["rope_theta"] == 40000.0
        torch.testing.assert_close(resumed.model.state_dict(), trainer.model.state_dict(), rtol=0, atol=0)
        ids = torch.arange(5, 21)[None]
        assert torch.equal(trainer.model.eval()(input_ids=ids).logits, resumed.model.eval()(input_ids=ids).logits)


def test_what_is_done_once_an_epoch(tmp_path, tokenizer, gau):
    # Ten pages, two a step and accumulated by two: an epoch ends in the middle of every second step.
    trainer = make_trainer(
        tmp_path,
        tokenizer,
        gau(),
        {"pages": 10},
        {"eval_dataset": make_rows([12, 9])},
        max_steps=8,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        logging_strategy="epoch",
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    trainer.train()
    history = trainer.state.log_history
    assert [(entry["step"], entry["epoch"]) for entry in history if "loss" in entry] == [(3, 1.2), (5, 2.0), (8, 3.2)]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [3, 5, 8]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in (3, 5, 8)]


def test_decay_is_for_matrices(tmp_path, tokenizer, gau):
    model = gau()
    names = make_trainer(tmp_path, tokenizer, model).get_decay_parameter_names(model)
    parameters = dict(model.named_parameters())
    assert names and all(parameters[name].ndim == 2 for name in names)
    assert all(parameter.ndim < 2 for name, parameter in parameters.items() if name not in names)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"num_decay_steps": 10, "decay_type": "1-sqrt"}),
        ({"decay_steps": 0.25, "decay_type": "linear"}, {"num_decay_steps": 25, "decay_type": "linear"}),
        ({"decay_steps": 7}, {"num_decay_steps": 7, "decay_type": "1-sqrt"}),
        (
            {"lr_scheduler_kwargs": {"num_decay_steps": 3, "min_lr_ratio": 0.1}},
            {"num_decay_steps": 3, "decay_type": "1-sqrt", "min_lr_ratio": 0.1},
        ),
    ],
)
def test_the_decay_of_a_schedule(tmp_path, settings, expected):
    args = arguments(tmp_path, lr_scheduler_type="warmup_stable_decay", max_steps=100, **settings)
    args.fill_schedule()
    assert args.lr_scheduler_kwargs == expected
    linear = arguments(tmp_path, lr_scheduler_type="linear", max_steps=100, **settings | {"lr_scheduler_kwargs": None})
    before = linear.lr_scheduler_kwargs
    linear.fill_schedule()
    assert linear.lr_scheduler_kwargs == before


def test_arguments_that_cannot_be(tmp_path):
    args = arguments(tmp_path, lr_scheduler_type="warmup_stable_decay", max_steps=100, warmup_steps=60, decay_steps=50)
    with pytest.raises(ValueError, match="warm-up of 60 steps and a decay of 50 exceed the 100 steps"):
        args.fill_schedule()
    with pytest.raises(ValueError, match=r"--decay_steps must be .* at least 0, got -1"):
        arguments(tmp_path, decay_steps=-1)
    for name in ("prediction_loss_only", "batch_eval_metrics"):  # without logits there are no metrics
        with pytest.raises(ValueError, match=f"--{name} is not supported"):
            arguments(tmp_path, **{name: True})


def test_the_learning_rate_falls_as_one_minus_the_root(tmp_path, tokenizer, gau):
    settings = {"lr_scheduler_type": "warmup_stable_decay", "decay_steps": 8, "warmup_steps": 4, "learning_rate": 1.0}
    trainer = make_trainer(tmp_path, tokenizer, gau(), max_steps=20, **settings)
    trainer.args.fill_schedule()
    trainer.create_optimizer_and_scheduler(20)
    rates = []
    for _ in range(20):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    expected = [step / 4 for step in range(4)] + [1.0] * 8 + [1 - math.sqrt(step / 8) for step in range(8)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        (3, {}),
        (4, {}),
        (5, {"workers": 2}),
        (3, {"accumulation": 2, "apart": True, "stages": (Stage((8, 16), (1.0, 1.0)),)}),
    ],
    ids=["mid_epoch", "epoch_boundary", "after_it", "documents_mixed_lengths_accumulated"],
)
def test_resumed_training_is_bit_equal(tmp_path, tokenizer, gau, stop, options):
    # Epochs of four steps, or of two where batches are accumulated.
    loader_options = {name: options[name] for name in ("apart", "stages") if name in options}
    settings = {
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": options.get("accumulation", 1),
        "dataloader_num_workers": options.get("workers", 0),
        "learning_rate": 1e-2,
        "warmup_steps": 2,
    }
    whole = make_trainer(tmp_path / "whole", tokenizer, gau(), loader_options, **settings)
    whole.train()
    for attempt in ("first", "second"):
        resumed = make_trainer(tmp_path / attempt, tokenizer, gau(seed=9), loader_options, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
        assert losses(resumed) == losses(whole)
        torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
        states = [trainer.optimizer.state_dict()["state"] for trainer in (resumed, whole)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
        assert resumed.state.num_input_tokens_seen == whole.state.num_input_tokens_seen
        assert resumed.totals() == whole.totals()


def losses(trainer: MaskedLMTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_checkpoints_are_saved_with_their_own_sparse_prediction(tmp_path, tokenizer, gau):
    model = gau()
    trainer = make_trainer(
        tmp_path, tokenizer, model, None, {"saved_sparse_prediction": False}, save_strategy="steps", save_steps=1
    )
    trainer.train()
    trainer.save_model()
    for path in (tmp_path, tmp_path / "checkpoint-1"):
        assert not GAUForMaskedLM.from_pretrained(path).config.sparse_prediction
    assert model.config.sparse_prediction


def arguments(output_dir, **kwargs) -> PretrainingArguments:
    return PretrainingArguments(output_dir=str(output_dir), use_cpu=True, report_to="none", **kwargs)


def make_checkpoint(path: Path) -> str:
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
    return str(path)


@pytest.mark.parametrize("arguments_class", [PretrainingArguments, GlueTrainingArguments])
@pytest.mark.parametrize("name", ["bf16", "bf16_full_eval"])
def test_bfloat16_without_an_accelerator_runs_on_the_cpu(tmp_path, monkeypatch, caplog, arguments_class, name):
    for check in ("torch.accelerator.is_available", "modeling_gau.runs.arguments.is_torch_bf16_gpu_available"):
        monkeypatch.setattr(check, lambda: False)
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: False)
    args = arguments_class(output_dir=str(tmp_path), **{name: True})
    assert args.use_cpu and getattr(args, name) and args.device.type == "cpu"
    assert "computing bfloat16 on the CPU" in caplog.text
    # An accelerator that cannot do it must not be left idle without a word.
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    with pytest.raises(ValueError, match="bf16"):
        arguments_class(output_dir=str(tmp_path), **{name: True})


@pytest.fixture
def earlier_runs(tmp_path) -> Path:
    """Output directories: `interrupted` with a checkpoint of step 3, and `finished` without any."""
    make_checkpoint(tmp_path / "interrupted" / "checkpoint-3")
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "config.json").write_text("{}")
    return tmp_path


def test_a_new_run_does_not_touch_an_earlier_one(earlier_runs):
    assert find_checkpoint(arguments(earlier_runs / "new")) is None
    assert not (earlier_runs / "new").exists()
    (earlier_runs / "notes.txt").write_text("in nobody's way")
    assert find_checkpoint(arguments(earlier_runs)) is None
    for name in ("interrupted", "finished"):
        with pytest.raises(ValueError, match=f"{name} holds an earlier run.*--resume_from_checkpoint last"):
            find_checkpoint(arguments(earlier_runs / name))
        assert find_checkpoint(arguments(earlier_runs / name, overwrite_output_dir=True)) is None
    with pytest.raises(ValueError, match="is a file"):
        find_checkpoint(arguments(earlier_runs / "notes.txt"))


def test_resume_finds_the_newest_checkpoint_or_says_what_is_wrong(tmp_path):
    _, last, named = [make_checkpoint(tmp_path / f"checkpoint-{step}") for step in (3, 12, 6)]
    for wanted, found in (("last", last), ("True", last), (named, named)):
        assert find_checkpoint(arguments(tmp_path, resume_from_checkpoint=wanted)) == found
    for output_dir, options, message in (
        (tmp_path / "empty", {}, r"has no checkpoint-\* folder"),
        (tmp_path, {"resume_from_checkpoint": f"{tmp_path}/checkpoint-7"}, "checkpoint-7 is not a checkpoint of the"),
        (tmp_path, {"overwrite_output_dir": True}, "keep one"),
    ):
        with pytest.raises(ValueError, match=message):
            find_checkpoint(arguments(output_dir, **{"resume_from_checkpoint": "last"} | options))


def test_resume_auto_begins_or_goes_on(earlier_runs, capsys):
    def find(name: str) -> str | None:
        return find_checkpoint(arguments(earlier_runs / name, resume_from_checkpoint="auto"))

    assert find("new") is None and not (earlier_runs / "new").exists()
    assert find("interrupted") == str(earlier_runs / "interrupted" / "checkpoint-3")
    assert "Resuming from" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds an earlier run"):  # finished: nothing to begin over
        find("finished")
