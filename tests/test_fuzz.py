# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Drawn configurations, batches, arguments and marks: every outcome is a result that the formulas confirm, or an error
of ours that says in one line what is wrong.

A case is drawn from its number alone, which the name of its test has.
"""

import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from formulas import reference_states
from torch.nn import functional as F
from transformers import PreTrainedModel

import modeling_gau
from modeling_gau import GAUConfig, GAUError, attention_gau
from modeling_gau.configuration_gau import NORMALIZATION_USES_N
from modeling_gau.glue.arguments import GlueArguments
from modeling_gau.glue.study import StudyArguments
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import CardArguments, ModelArguments, RunArguments
from modeling_gau.runs.checkpoints import MANIFEST_NAME, _digest, check_whole, find_whole_checkpoint, read_run_state
from modeling_gau.runs.state_files import write_json
from modeling_gau.text.arguments import DataArguments


def chance(draw: random.Random, share: float) -> bool:
    return draw.random() < share


def refusal(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a call gives, and the message of the error of ours that it raises instead. Other errors are faults."""
    try:
        return call(), None
    except GAUError as error:
        message = str(error)
        assert message and "\n" not in message, message
        return None, message


# ---- Configurations ----


def draw_fields(draw: random.Random) -> dict[str, Any]:
    """Fields of a small configuration, all of them allowed."""
    one = draw.choice
    normalization, layers, size = one(list(NORMALIZATION_USES_N)), draw.randint(1, 3), 2 * draw.randint(1, 8)
    bias = one((None, None, "distance", "rotary"))
    fields = {
        "vocab_size": draw.randint(8, 40),
        "hidden_size": draw.randint(1, 24),
        "intermediate_size": draw.randint(1, 40),
        "attention_key_size": size,
        "num_hidden_layers": layers,
        "hidden_act": one(("silu", "gelu", "relu", "tanh")),
        "attention_normalization": normalization,
        "fixed_n": one((None, None, None, 5, 2**31 - 1)) if NORMALIZATION_USES_N[normalization] else None,
        "reference_length": one((2, 12, 512)),
        "softmax_plus_min_length": one((1, 3, 16)),
        "max_position_embeddings": one((1, 8, 512)),
        "type_vocab_size": draw.randint(1, 3),
        "use_bias": chance(draw, 0.3),
        "query_key_offset_init": one((None, None, 0, -0.5, 1.2)),
        "relative_position_bias": bias,
        "relative_position_bias_init": one((0.5, 3) if bias == "rotary" else (0.5, 0, -1.0)),
        "relative_position_bias_max_distance": one((1, 4, 128)),
        "classifier_pooling": one(("cls", "mean", "pair")),
        "classifier_dropout": one((None, 0.0, 0.5)),
        "initializer_range": one((0.4, 0.4, None, 0.05)),
        "layer_norm_eps": one((1e-12, 1e-5, 1)),
        "pad_token_id": one((0, None, 7)),
        "tie_word_embeddings": chance(draw, 0.7),
        "rope_parameters": one((None, None, *_ropes(draw, size))),
        "sparse_prediction": chance(draw, 0.3),
        "unpad_inputs": chance(draw, 0.7),
        "num_labels": draw.randint(1, 4),
    }
    if chance(draw, 0.6):
        fields["sliding_window"] = one((1, 2, 3, 5, 1000))
        kinds = ("full_attention", "sliding_attention")
        fields["layer_types"] = one((None, [one(kinds) for _ in range(layers)]))
    return fields


def _ropes(draw: random.Random, size: int) -> tuple[dict[str, Any], ...]:
    base = {"rope_theta": draw.choice((1.0, 100, 10000.0, 1e6))}
    return (
        {"rope_type": "default", **base},
        {"rope_type": "linear", "factor": 4.0, **base},
        {"rope_type": "linear" if size == 2 else "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 10000.0},
        {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8, **base},
        {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * (size // 2),
         "long_factor": [2.0] * (size // 2), "original_max_position_embeddings": 8, **base},
    )  # fmt: skip


NUMBERS = (float("nan"), float("inf"), 10**30, 2**63, -1, -(2**63), "7", [7], {"a": 1}, True, 1 + 2j)
NO_INTEGERS = (*NUMBERS, 0, 1.5, 7.0)
FORBIDDEN = {
    **dict.fromkeys(
        ("vocab_size", "hidden_size", "intermediate_size", "attention_key_size", "num_hidden_layers",
         "reference_length", "softmax_plus_min_length", "max_position_embeddings", "type_vocab_size",
         "relative_position_bias_max_distance", "num_labels"),
        (*NO_INTEGERS, None),
    ),
    **dict.fromkeys(("fixed_n", "sliding_window"), NO_INTEGERS),
    "num_attention_heads": (0, 2, -1, "1", None, 1.5),
    "attention_normalization": ("Softmax", "", None, 3, ["softmax"], "softmax_minus"),
    "hidden_act": ("swishy", "", None, 3, ["silu"]),
    "query_key_offset_init": (float("nan"), float("-inf"), 1e5, "1", [1.0]),
    "relative_position_bias": ("t5", "", 1, ["rotary"], True),
    "relative_position_bias_init": (float("nan"), 1e5, None, "1"),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), (1, 1.0, -0.1, float("nan"), "0", None)),
    "classifier_dropout": (1, 1.0, -0.1, float("nan"), "0"),
    "classifier_pooling": ("max", "", None, 0),
    "initializer_range": (0, 0.0, -1.0, float("nan"), float("inf"), "0.02", 1e-40),
    "layer_norm_eps": (0, 0.0, -1e-6, float("nan"), 2, "1e-5", None, 1e-40),
    "pad_token_id": (-1, 40, 2**63, "0", 1.5),
    "layer_types": (["full_attention"] * 7, ["local"], "full_attention", [1], 3),
    "rope_parameters": (
        {"rope_type": "foo"}, {"rope_type": "linear"}, {"rope_type": "linear", "factor": "4"}, {"rope_theta": 0},
        {"rope_theta": -5}, {"rope_theta": float("nan")}, {"rope_theta": "big"}, "default", [1], 3, {"rope_type": 3},
        {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * 99, "long_factor": [2.0] * 99},
        {"partial_rotary_factor": 0.5}, {"full_attention": {"rope_theta": 1e4}}, {"rope_type": ["linear"]},
    ),
    **dict.fromkeys(("use_bias", "sparse_prediction", "unpad_inputs", "tie_word_embeddings"), ("yes", 3, [True])),
    "problem_type": ("foo", 3, "", ["regression"]),
    "id2label": ("names", [1], {"a": "b"}),
    "dtype": ("float33", "int", 3),
}  # fmt: skip


@pytest.mark.parametrize("number", range(400))
def test_configurations(number):
    draw = random.Random(number)
    fields = draw_fields(draw)
    if chance(draw, 0.6):
        name = draw.choice(list(FORBIDDEN))
        value = draw.choice(FORBIDDEN[name])
        config, _ = refusal(lambda: GAUConfig(**fields | {name: value}))
        assert config is None, f"{name}={value!r} was taken"
        return
    config = GAUConfig(**fields)
    for name, value in fields.items():
        if name not in ("rope_parameters", "layer_types"):
            assert getattr(config, name) == value, name
    assert GAUConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


# ---- Batches ----


ONE_ANSWER = ("GAUForSequenceClassification", "GAUForQuestionAnswering", "GAUForMultipleChoice")
HEADS = ("GAUModel", "GAUForMaskedLM", "GAUForTokenClassification", *ONE_ANSWER)
HIDDEN = (-math.inf, -1e9, -1e4, float(torch.finfo(torch.float32).min))


class Batch:
    """A drawn batch: the model's arguments, and what they say about each row in the terms of the formulas.

    `seen` `(rows, seq, seq)`, `bias` likewise, `real` `(rows, seq)`, `places` `(rows, seq)`, `reach`: the largest
    position + 1; `packs`: whether a row holds several sequences; `one_row`: the shape has one row.
    """

    def __init__(self, draw: random.Random, config: GAUConfig, rows: int):
        self.rows, self.seq = rows, draw.choice((1, 2, 5, 9, 17, 24))
        self.generator = torch.Generator().manual_seed(draw.getrandbits(32))
        shape = (self.rows, self.seq)
        self.inputs: dict[str, Any] = {}
        self.words = self.integers(0, config.vocab_size, shape)
        self.inputs["input_ids"] = self.words if chance(draw, 0.7) else self.words.int()
        if chance(draw, 0.2):
            self.words = torch.randn(*shape, config.hidden_size, generator=self.generator, dtype=torch.float64)
            self.inputs = {"inputs_embeds": self.words}
        self.types = torch.zeros(shape, dtype=torch.long)
        if chance(draw, 0.4):
            self.types, self.inputs["token_type_ids"] = self.ids(draw, config.type_vocab_size)
        self.seen = torch.ones(*shape, self.seq, dtype=torch.bool)
        self.bias = torch.zeros(*shape, self.seq, dtype=torch.float64)
        self.real, self.pools, self.packs = torch.ones(shape, dtype=torch.bool), None, False
        self.places = torch.arange(self.seq).expand(shape)
        draw.choice((self.unmasked, self.padded, self.masked, self.numbered))(draw)
        self.reach = int(self.places.max()) + 1

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> torch.LongTensor:
        return torch.randint(low, high, shape, generator=self.generator)

    def coins(self, *shape: int, share: float = 0.7) -> torch.BoolTensor:
        return torch.rand(shape, generator=self.generator) < share

    def ids(self, draw: random.Random, high: int) -> tuple[torch.LongTensor, torch.Tensor]:
        """Ids of each token, and a form in which they may be given."""
        one_row = chance(draw, 0.5)
        ids = self.integers(0, high, (1 if one_row else self.rows, self.seq))
        given = ids[0] if one_row and chance(draw, 0.3) else ids
        return ids.expand(self.rows, -1), given if chance(draw, 0.7) else given.int()

    def unmasked(self, draw: random.Random) -> None:
        if chance(draw, 0.4):
            self.place(draw)

    def place(self, draw: random.Random) -> None:
        """Positions; in a single row, those that restart pack it."""
        self.places, self.inputs["position_ids"] = self.ids(draw, draw.choice((1, 5, 3000)))
        if self.rows == 1 and chance(draw, 0.6):
            self.pack(draw)
            self.inputs["position_ids"] = self.places if chance(draw, 0.5) else self.places[0]
        elif self.rows == 1:
            steps = self.places.diff(dim=-1)
            if self.seq > 1 and bool((steps == 1).any()):  # might restart by chance
                self.places = self.inputs["position_ids"] = 2 * torch.arange(self.seq)[None]

    def pack(self, draw: random.Random) -> list[int]:
        """Lays sequences end to end in the single row; returns where they end."""
        ends = sorted({*(draw.randint(1, self.seq) for _ in range(3)), self.seq})
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        self.packs = len(lengths) > 1 and (max(lengths) > 1)
        if not self.packs:
            ends, lengths = [self.seq], [self.seq]
        numbers = torch.cat([torch.full((length,), index) for index, length in enumerate(lengths)])
        self.seen = (numbers[:, None] == numbers)[None]
        self.places = torch.cat([torch.arange(length) for length in lengths])[None]
        return [0, *ends]

    def padded(self, draw: random.Random) -> None:
        kind, rows = draw.choice(("right", "left", "holes", "all", "none")), range(self.rows)
        if kind in ("right", "left"):
            counts = [draw.randint(0, self.seq) for _ in rows]
            places = torch.arange(self.seq)
            cuts = [places < count if kind == "right" else places >= self.seq - count for count in counts]
            self.real = torch.stack(cuts)
        elif kind == "holes":
            self.real = self.coins(self.rows, self.seq)
        elif kind == "none":
            self.real = torch.zeros_like(self.real)
        dtypes = (torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32, torch.float16, torch.float64)
        self.inputs["attention_mask"] = self.real.to(draw.choice(dtypes))
        self.seen, self.pools = self.real[:, None].expand(-1, self.seq, -1), self.real
        if chance(draw, 0.3):
            self.places, self.inputs["position_ids"] = self.ids(draw, 40)

    def masked(self, draw: random.Random) -> None:
        """A 4-D mask."""
        shape = (draw.choice((1, self.rows)), 1, draw.choice((1, self.seq)), self.seq)
        visible = self.coins(*shape)
        mask = visible
        if chance(draw, 0.6):
            mask = 0.5 + torch.randn(shape, generator=self.generator, dtype=torch.float64)
            mask = torch.where(visible, mask * draw.choice((0.0, 1.0)), draw.choice(HIDDEN))
            self.bias = mask.masked_fill(~visible, 0.0)[:, 0].expand(self.rows, self.seq, -1)
        self.inputs["attention_mask"] = mask
        self.seen = visible[:, 0].expand(self.rows, self.seq, -1)
        self.pools = self.seen.any(1)
        if chance(draw, 0.3):
            self.places, self.inputs["position_ids"] = self.ids(draw, 40)

    def numbered(self, draw: random.Random) -> None:
        """Packed rows, by `cu_seq_lens_q` or `document_ids`."""
        if self.rows == 1 and chance(draw, 0.5):
            ends, self.packs = self.pack(draw), True
            edges = torch.tensor(ends, dtype=draw.choice((torch.int32, torch.int64)))
            self.inputs["cu_seq_lens_q"] = edges
            if chance(draw, 0.3):
                self.inputs["cu_seq_lens_k"] = edges
            return
        numbers = self.integers(0, draw.choice((2, 4)), (self.rows, self.seq))
        if chance(draw, 0.8):
            numbers = numbers.sort(-1, descending=chance(draw, 0.5)).values
        self.inputs["document_ids"], self.real, self.packs = numbers, numbers != 0, True
        self.seen = numbers[:, None] == numbers[:, :, None]
        starts = F.pad(numbers.diff(dim=-1) != 0, (1, 0), value=True)
        begins = torch.where(starts, torch.arange(self.seq), 0).cummax(-1).values
        self.places = (torch.arange(self.seq) - begins) * self.real
        if chance(draw, 0.2):
            self.inputs["attention_mask"] = self.real.long()


def spoil(draw: random.Random, batch: Batch, config: GAUConfig) -> str:
    """Puts something into the batch that has no meaning; returns what."""
    ids, (rows, seq) = torch.zeros(batch.rows, batch.seq, dtype=torch.long), (batch.rows, batch.seq)
    no_ids = (ids.float(), ids.to(torch.uint8), ids.bool(), ids[:, :, None], [[0] * seq] * rows, 3, ids + 0j)
    wrong = {
        "input_ids": (*no_ids, ids + config.vocab_size, ids - 1, ids[:0], ids[:, :0], ids[0], None),
        "inputs_embeds": (torch.zeros(rows, seq, config.hidden_size + 1), "text", ids),
        "token_type_ids": (*no_ids, ids + config.type_vocab_size, ids - 1, torch.zeros(rows, seq + 1).long()),
        "position_ids": (*no_ids, torch.zeros(rows + 1, seq).long(), torch.zeros(seq + 1).long()),
        "attention_mask": (
            torch.full((rows, seq), math.nan), torch.full((rows, seq), 2), torch.full((rows, seq), -1),
            torch.full((rows, seq), -1e9), torch.ones(rows, seq + 1), torch.ones(rows + 1, seq), torch.ones(seq),
            torch.ones(rows, seq, seq), torch.ones(rows, 2, seq, seq).bool(), torch.ones(rows, 1, seq, seq).long(),
            torch.ones(rows, 1, seq, seq), torch.full((rows, 1, 1, seq), math.nan),
            torch.full((rows, 1, 1, seq), math.inf), [[1] * seq] * rows, "all", 1, ids + 1j,
        ),
        "document_ids": (ids - 1, ids.float() + 1, ids[:, :, None], [[1] * seq] * rows, ids.bool(), 7),
        "cu_seq_lens_q": (
            torch.tensor([0, seq + 1]), torch.tensor([1, seq]), torch.tensor([0, seq, seq - 1, seq]),
            torch.tensor([0.0, float(seq)]), torch.tensor([[0, seq]]), [0, seq], torch.tensor(seq), torch.tensor([0]),
        ),
        "cu_seq_lens_k": (torch.tensor([0, seq]),),
    }  # fmt: skip
    name = draw.choice(list(wrong))
    value = draw.choice(wrong[name])
    for other in ("cu_seq_lens_q", "cu_seq_lens_k", "document_ids"):
        batch.inputs.pop(other, None)
    if name in ("input_ids", "attention_mask", "document_ids", "cu_seq_lens_q", "cu_seq_lens_k"):
        batch.inputs.pop("attention_mask", None)
    if name == "input_ids":
        batch.inputs.pop("inputs_embeds", None)
    batch.inputs[name] = value
    return f"{name}={value}"


def draw_labels(draw: random.Random, head: str, config: GAUConfig, batch: Batch) -> dict[str, torch.Tensor]:
    """Labels in one of the forms that a head takes."""
    rows, seq, classes = batch.rows, batch.seq, config.num_labels
    if head in ("GAUForMaskedLM", "GAUForTokenClassification"):
        high = config.vocab_size if head == "GAUForMaskedLM" else classes
        labels = batch.integers(0, high, (rows, seq))
        labels = labels.masked_fill(batch.coins(rows, seq, share=draw.choice((0.0, 0.5, 1.0))), -100)
        return {"labels": draw.choice((labels, labels, labels.flatten(), labels.T.contiguous().T))}
    if head == "GAUForQuestionAnswering":
        ends = {name: batch.integers(-1, seq + 2, (rows,)) for name in ("start_positions", "end_positions")}
        return ends if chance(draw, 0.7) else {name: given[:, None] for name, given in ends.items()}
    if head == "GAUForMultipleChoice":
        return {"labels": batch.integers(0, config.num_choices, (rows,))}
    if config.problem_type == "multi_label_classification":
        targets = batch.coins(rows, classes)
        return {"labels": targets.to(draw.choice((torch.float64, torch.float32, torch.int64, torch.bool)))}
    if config.problem_type == "regression" or (config.problem_type is None and classes == 1):
        shapes = ((rows,), (rows, 1)) if classes == 1 else ((rows, classes),)
        return {"labels": torch.randn(draw.choice(shapes), generator=batch.generator, dtype=torch.float64)}
    labels = batch.integers(0, classes, draw.choice(((rows,), (rows, 1))))
    return {"labels": labels if chance(draw, 0.7) else labels.to(torch.uint8)}


def mean_of(states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (states * chosen[..., None]).sum(1) / chosen.sum(1, keepdim=True).clamp(min=1)


def compared(states: torch.Tensor, pools: torch.Tensor, types: torch.Tensor, eps: float) -> torch.Tensor:
    """Row by row: both segments, or the row twice where it has one."""
    rows = []
    for row, real, kinds in zip(states, pools, types, strict=True):
        parts = [row[real & (kinds == 0)], row[real & (kinds != 0)]]
        means = [(part if len(part) else row[real]).sum(0) / max(len(part) or int(real.sum()), 1) for part in parts]
        u, v = (mean / (mean.square().mean() + eps).sqrt() for mean in means)
        rows.append(torch.cat(((u + v) / 2, (u - v).abs(), u * v)))
    return torch.stack(rows)


def reference(head: str, model, batch: Batch, labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of a head in float64, by the formulas."""
    encoder = model if head == "GAUModel" else model.model
    states = torch.stack(
        [
            reference_states(encoder, words, types, places, seen, bias, batch.reach)
            for words, types, places, seen, bias in zip(
                batch.words, batch.types, batch.places, batch.seen, batch.bias, strict=True
            )
        ]
    ).masked_fill(~batch.real[..., None], 0.0)
    if head == "GAUModel":
        return {"last_hidden_state": states}
    if head in ("GAUForMaskedLM", "GAUForTokenClassification"):
        logits = (model.decoder if head == "GAUForMaskedLM" else model.classifier)(states)
        if not labels:
            return {"logits": logits}
        targets = labels["labels"].reshape(batch.rows, batch.seq)
        labelled = targets != -100
        loss = F.cross_entropy(logits[labelled], targets[labelled], reduction="sum")
        if head == "GAUForTokenClassification":
            return {"logits": logits, "loss": loss / labelled.sum()}
        sparse = model.config.sparse_prediction
        return {"logits": logits[labelled] if sparse else logits, "loss": loss / labelled.sum().clamp(min=1)}
    if head == "GAUForQuestionAnswering":
        ends = model.qa_outputs(states).unbind(-1)
        outputs = dict(zip(("start_logits", "end_logits"), ends, strict=True))
        if labels:
            targets = [given.reshape(-1).clamp(0, batch.seq) for given in labels.values()]
            losses = [F.cross_entropy(*pair, ignore_index=batch.seq) for pair in zip(ends, targets, strict=True)]
            outputs["loss"] = sum(losses) / 2
        return outputs
    pools = batch.real if batch.pools is None else batch.pools
    if model.config.classifier_pooling == "mean":
        pooled = mean_of(states, pools)
    elif model.config.classifier_pooling == "pair":
        pooled = compared(states, pools, batch.types, model.config.layer_norm_eps)
    else:
        pooled = states[torch.arange(batch.rows), pools.int().argmax(1)]
    logits = model.classifier(pooled)
    if head == "GAUForMultipleChoice":
        logits = logits.view(-1, model.config.num_choices)
    outputs, targets = {"logits": logits}, labels.get("labels")
    if targets is None:
        return outputs
    if model.config.problem_type == "multi_label_classification" and head != "GAUForMultipleChoice":
        outputs["loss"] = F.binary_cross_entropy_with_logits(logits, targets.double())
    elif targets.is_floating_point():
        outputs["loss"] = (logits - targets.view_as(logits)).square().mean()
    else:
        outputs["loss"] = F.cross_entropy(logits, targets.long().view(-1))
    return outputs


def spoil_labels(draw: random.Random, head: str, config: GAUConfig, batch: Batch) -> dict[str, Any]:
    """Labels without a meaning."""
    rows, seq = batch.rows, batch.seq
    tokens = head in ("GAUForMaskedLM", "GAUForTokenClassification")
    shape = (rows, seq) if tokens else (rows,)
    right = torch.zeros(shape, dtype=torch.long)
    wrong = [right.int(), right[None, None], right.flatten()[:0], [0] * rows, 1, right + 0j, "label"]
    if head == "GAUForQuestionAnswering":
        name = draw.choice(("start_positions", "end_positions"))
        return {"start_positions": right, "end_positions": right} | {name: draw.choice([*wrong, right.float()])}
    is_class = tokens or head == "GAUForMultipleChoice" or config.problem_type == "single_label_classification"
    if is_class or (config.problem_type is None and config.num_labels > 1):
        high = config.vocab_size if head == "GAUForMaskedLM" else config.num_labels
        high = config.num_choices if head == "GAUForMultipleChoice" else high
        wrong += [right + high, right - 1, right + 2**40]
        wrong += [right.float()] if is_class else []
    elif config.problem_type == "multi_label_classification":
        wrong = [torch.full((rows, config.num_labels), value) for value in (2, -1, math.nan, 0.0 + 7)]
        wrong += [torch.ones(rows, config.num_labels + 1), torch.ones(rows + 1, config.num_labels), [1.0]]
    else:
        wrong = [torch.full((rows, config.num_labels), value) for value in (math.nan, math.inf)]
        wrong += [torch.ones(rows, config.num_labels + 1), torch.ones(rows + 1, config.num_labels), [1.0]]
    return {"labels": draw.choice(wrong)}


def as_choices(batch: Batch, choices: int) -> None:
    """Gives the rows of a batch as choices of questions, `(questions, choices, ...)`."""
    for name, given in batch.inputs.items():
        if isinstance(given, torch.Tensor) and given.ndim > 1 and given.shape[0] in (1, batch.rows):
            given = given.expand(batch.rows, *given.shape[1:]) if given.shape[0] == 1 else given
            batch.inputs[name] = given.unflatten(0, (-1, choices))


def check_gradients(outputs, expected: dict[str, torch.Tensor], model, exact) -> None:
    weights = {name: torch.randn_like(value) for name, value in expected.items() if name != "loss"}
    gradients = [
        torch.autograd.grad(
            sum((given[name] * weight).sum() for name, weight in weights.items()),
            list(of.parameters()), allow_unused=True, materialize_grads=True,
        )
        for given, of in ((outputs, model), (expected, exact))
    ]  # fmt: skip
    for (name, _), ours, theirs in zip(model.named_parameters(), *gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-7 * theirs.norm().clamp(min=1e-3), name


def draw_config(draw: random.Random, head: str) -> GAUConfig:
    fields = draw_fields(draw) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if head == "GAUForSequenceClassification":
        problems = (None, "single_label_classification", "multi_label_classification", "regression")
        fields["problem_type"] = draw.choice(problems)
        fields["num_labels"] += fields["problem_type"] == "single_label_classification"
    return GAUConfig(**fields, num_choices=draw.randint(1, 3) if head == "GAUForMultipleChoice" else 1)


def draw_model(draw: random.Random, head: str, config: GAUConfig) -> PreTrainedModel | None:
    """A model whose learned vectors are away from zeros and ones; None if it was refused, and had to be."""
    backend = draw.choice((None, "eager", "sdpa", "gau_blocked", "gau_auto", "foo"))
    kind = getattr(modeling_gau, head)
    model, message = refusal(lambda: kind._from_config(config, attn_implementation=backend))
    unable = backend == "foo" or (backend == "sdpa" and "softmax" not in config.attention_normalization)
    assert (model is None) == unable, message
    if model is None:
        return None
    model = model.eval().to(draw.choice((torch.float64,) * 4 + (torch.float32, torch.bfloat16, torch.float16)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def check_outputs(outputs, expected: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    for name, value in expected.items():
        ours = outputs[name].double()
        assert ours.shape == value.shape, name
        assert torch.equal(ours.isnan(), value.isnan()), name  # the mean over no labels
        exact = 1e-5 if name == "loss" else 1e-8  # transformers computes losses in float32
        tolerance = {torch.float64: exact, torch.float32: 1e-2}.get(dtype, 0.3)
        error = (ours - value).nan_to_num().norm()
        assert error <= tolerance * value.nan_to_num().norm().clamp(min=1e-3), name


@pytest.mark.parametrize("number", range(250))
def test_batches(number, monkeypatch):
    draw = random.Random(number)
    torch.manual_seed(number)
    if chance(draw, 0.5):  # several blocks a sequence, and padding taken out wherever a backend can
        monkeypatch.setitem(attention_gau._BLOCK_ELEMENTS, "cpu", 60)
        monkeypatch.setattr(attention_gau, "_MIN_BLOCK_ROWS", 4)
        monkeypatch.setattr(attention_gau, "_MIN_WINDOW_ROWS", 4)
        monkeypatch.setattr("modeling_gau.unpadding_gau._OPERATIONS_OF_A_CALL", 1.0)
    head = draw.choice(HEADS)
    config = draw_config(draw, head)
    model = draw_model(draw, head, config)
    if model is None:
        return
    batch = Batch(draw, config, draw.randint(1, 4) * config.num_choices)
    wrong = spoil(draw, batch, config) if chance(draw, 0.3) else None
    labels = {}
    if head != "GAUModel" and chance(draw, 0.6):
        questions = copy.copy(batch)
        questions.rows //= config.num_choices
        labels = draw_labels(draw, head, config, questions)
        if wrong is None and chance(draw, 0.2):
            labels = wrong = spoil_labels(draw, head, config, questions)
    if head == "GAUForMultipleChoice":
        as_choices(batch, config.num_choices)
    extra = {name: True for name in ("output_attentions", "output_hidden_states") if chance(draw, 0.1)}

    outputs, message = refusal(lambda: model(**batch.inputs, **labels, **extra))
    if wrong is not None or (batch.packs and head in ONE_ANSWER):
        assert outputs is None, f"taken: {wrong or 'packed rows'}"
        return
    assert outputs is not None, message
    exact = copy.deepcopy(model).double()
    expected = reference(head, exact, batch, labels)
    check_outputs(outputs, expected, model.dtype)
    if model.dtype == torch.float64 and chance(draw, 0.3):
        check_gradients(outputs, expected, model, exact)


# ---- Arguments ----


NAN, INF = math.nan, math.inf
# Class -> argument -> values that are allowed, and values that are not; all others stay at their defaults.
ARGUMENTS: dict[type, dict[str, tuple[tuple, tuple]]] = {
    ModelArguments: {"fixed_n": ((None, 1, 2**31 - 1), (0, -1, 2**31, 10**30))},
    CardArguments: {
        "license": ((None, "apache-2.0", "other"), ("", "Apache 2", "<b>", "-x")),
        "language": ((None, ["en"], ["zh", "code"]), (["English"], ["en", ""], ["e"], ["<b>"])),
    },
    DataArguments: {
        **dict.fromkeys(("mlm_probability", "eval_mlm_probability"), ((0.15, 1e-9, 0.99), (0, 1, -1, NAN, INF, 2.0))),
        "mask_replace_prob": ((0.8, 0, 0.5), (-0.1, 1.1, NAN, INF)),
        "random_replace_prob": ((0.1, 0, 0.2), (-0.1, 1.1, NAN, -INF)),
        "max_seq_length": ((512, 3, 2048), (2, 0, -1, 2**31)),
        "eval_lengths": ((None, [3], [64, 128]), ([], [2], [64, 0], [-5])),
        **dict.fromkeys(
            ("max_train_samples", "max_eval_samples", "max_eval_tokens", "preprocessing_num_workers"),
            ((None, 1, 7), (0, -1, 2**63, -(10**30))),
        ),
        **dict.fromkeys(("vocab_size", "tokenizer_characters"), ((1, 8192), (0, -1))),
        "validation_split_percentage": ((5.0, 1e-9, 99.0), (0, 100, -1, NAN, INF)),
        "validation_file": ((None,), (["a"],)),
        "dataset_config_name": ((None,), ("a",)),
        "streaming": ((False,), (True,)),
        "word_segmenter": ((None, "none"), ("jieba",)),
        "long_documents": (("split",), ("truncate",)),
        "mixed_length_weights": ((None, []), ([1.0],)),
    },
    GlueArguments: {
        "max_seq_length": ((128, 3), (2, 0, -1, 10**30)),
        **dict.fromkeys(
            ("max_train_samples", "max_eval_samples", "max_predict_samples", "preprocessing_num_workers"),
            ((None, 1, 7), (0, -1, -(10**30))),
        ),
        "task_name": (("rte", "all", "rte,sst2"), ("foo", "", "rte,foo", "RTE ")),
        "test_mismatched_file": ((None,), ("a.csv",)),
        "label_separator": ((",",), ("",)),
    },
    StudyArguments: {"seeds": ((None, [0], [1, 2**32 - 1]), ([], [0, 0], [-1], [2**32], [NAN]))},
}  # fmt: skip
_POSITIVE = ((1, 8, 2**31 - 1), (0, -1, 2**31, NAN, INF, 10**30))
_NOT_NEGATIVE = ((0, 0.5, 3), (-1, -1e-9, NAN, INF))
_RUN = {
    "per_device_train_batch_size": ((1, 8), (0, -1, 2**31, NAN, INF)),
    "per_device_eval_batch_size": _POSITIVE,
    "gradient_accumulation_steps": _POSITIVE,
    "eval_accumulation_steps": ((None, 1, 8), _POSITIVE[1]),
    "dataloader_num_workers": ((0, 3), (-1, 2**31, NAN, INF)),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "eval_delay"), _NOT_NEGATIVE),
    "neftune_noise_alpha": ((None, 0, 5.0), _NOT_NEGATIVE[1]),
    "warmup_steps": ((0, 0.1, 100), (-1, NAN, INF)),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), ((0, 0.9), (1, 1.0, -0.1, NAN, INF))),
    "adam_epsilon": ((1e-8, 1.0), (0, -1, NAN, INF)),
    "logging_steps": ((1, 0.5, 500), (0, -1, NAN, INF, 1.5)),
    "save_steps": ((1, 0.5, 500), (0, -1, NAN, INF, 1.5)),
    "seed": ((0, 42, 2**32 - 1), (-1, 2**32, NAN)),
    "data_seed": ((None, 0, 2**32 - 1), (-1, 2**32, NAN)),
    "max_steps": ((-1, 1, 2**31 - 1), (0, -2, 2**31, NAN)),
    "num_train_epochs": ((3, 0.5), (0, -1, NAN, INF)),
    "fp16": ((False,), (True,)),
    "optim": (("adamw_torch", "sgd"), ("adam", "")),
    "lr_scheduler_type": (("linear", "cosine"), ("cosinus", "")),
    "lr_scheduler_kwargs": ((None, {}), ("foo", {"a": 1})),
    "report_to": (("none",), ("foo", "")),
    "optim_args": ((None, ""), ("foo", "a=b=c")),
    "eval_strategy": (("no", "epoch"), ("sometimes", "")),
    "accelerator_config": ((None,), ("missing.json", {"foo": 1}, {"split_batches": True, "even": 3})),
    "load_best_model_at_end": ((False,), (True,)),
    **dict.fromkeys(("prediction_loss_only", "batch_eval_metrics"), ((False,), (True,))),
    "eval_do_concat_batches": ((True,), (False,)),
    "label_names": ((None,), (["score"],)),
}
ARGUMENTS[PretrainingArguments] = _RUN | {
    "decay_steps": ((0, 0.1, 50), (-1, NAN, INF)),
    "auto_find_batch_size": ((False,), (True,)),
}
ARGUMENTS[GlueTrainingArguments] = _RUN | {
    "dataloader_persistent_workers": ((False,), (True,)),
    "layerwise_lr_decay": ((1, 0.9, 1e-9), (0, -1, 1.1, NAN, INF)),
    "early_stopping_threshold": ((0, 0.1), (-0.1, NAN, INF)),
}
# By default a run evaluates and saves every epoch: these have no wrong values alone.
for name in ("load_best_model_at_end", "save_steps"):
    del ARGUMENTS[GlueTrainingArguments][name]


# An argument -> one that makes every value of it allowed.
COUNTS_INSTEAD = {"num_train_epochs": "max_steps", "dataloader_persistent_workers": "dataloader_num_workers"}


@pytest.mark.parametrize("number", range(250))
def test_arguments(number):
    draw = random.Random(number)
    kind = draw.choice(list(ARGUMENTS))
    table = ARGUMENTS[kind]
    values = {name: draw.choice(table[name][0]) for name in draw.sample(list(table), min(6, len(table)))}
    wrong = draw.choice([*table, None])
    if wrong is not None:
        values[wrong] = draw.choice(table[wrong][1])
    for name, other in COUNTS_INSTEAD.items():
        if wrong == name:
            values.pop(other, None)
    given = {"use_cpu": True} if issubclass(kind, RunArguments) else {}
    given |= {"task_name": "rte"} if kind is GlueArguments else {}
    arguments, message = refusal(lambda: kind(**given | values))
    if wrong is not None:
        assert arguments is None, f"{kind.__name__}({wrong}={values[wrong]!r}) was taken"
        return
    assert arguments is not None, message
    for name, value in values.items():
        if name not in ("eval_mlm_probability", "word_segmenter", "accelerator_config", "report_to"):
            assert getattr(arguments, name) == value, name


# ---- Marks ----


def write_checkpoint(folder: Path) -> dict[str, dict[str, Any]]:
    """A whole checkpoint of a few bytes, with its mark; returns the files that the mark lists."""
    folder.mkdir(parents=True)
    contents = {
        "model.safetensors": b"weights",
        "trainer_state.json": json.dumps({"global_step": 7, "log_history": [{"loss": 1.5, "step": 7}]}).encode(),
        "run_state_0.json": json.dumps({"state": {"batches": 3}}).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    listed = {name: {"bytes": len(content), "blake2b": _digest(folder / name)} for name, content in contents.items()}
    write_json(folder / MANIFEST_NAME, {"format": 1, "step": 7, "files": listed})
    return listed


def damage(draw: random.Random, content: bytes) -> bytes:
    """Flips bits, cuts, doubles or replaces a part, or puts another value in the place of one."""
    kind, place = draw.choice(("flip", "cut", "repeat", "noise", "value", "nest")), draw.randrange(len(content))
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == "cut":
        return content[:place]
    if kind == "repeat":
        return content[:place] + content[max(0, place - draw.randint(1, 60)) :]
    if kind == "noise":
        return content[:place] + draw.randbytes(draw.randint(1, 9)) + content[place + draw.randint(0, 9) :]
    if kind == "nest":
        return b"[" * 100_000 + content
    tree = json.loads(content)
    parent = tree
    while True:
        key = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        if not isinstance(parent[key], (dict, list)) or not parent[key] or chance(draw, 0.3):
            break
        parent = parent[key]
    parent[key] = draw.choice(
        (None, True, -1, 0, 1.5, 10**30, math.nan, "", "x\0", "../..", "/", "\ud800", [], {}, [1], {"a": 1})
    )
    return json.dumps(tree).encode()


@pytest.mark.parametrize("number", range(120))
def test_marks(number, tmp_path):
    """A checkpoint counts as whole exactly if its mark still lists the files that are there."""
    draw = random.Random(number)
    write_checkpoint(tmp_path / "checkpoint-3")
    newest = tmp_path / "checkpoint-7"
    listed = write_checkpoint(newest)
    name = draw.choice((MANIFEST_NAME, MANIFEST_NAME, "run_state_0.json", "trainer_state.json"))
    path = newest / name
    before = path.read_bytes()
    path.write_bytes(damage(draw, before))
    try:
        mark = json.loads((newest / MANIFEST_NAME).read_text(encoding="utf-8"))
        is_whole = mark["format"] == 1 and type(mark["format"]) is int and mark["files"] == listed
    except (ValueError, KeyError, TypeError, RecursionError):
        is_whole = False
    is_whole = is_whole and (name == MANIFEST_NAME or path.read_bytes() == before)
    assert find_whole_checkpoint(tmp_path)[0] == (newest if is_whole else tmp_path / "checkpoint-3")
    assert (refusal(lambda: check_whole(newest))[1] is None) == is_whole
    refusal(lambda: read_run_state(newest))
    (newest / MANIFEST_NAME).unlink()  # as if the plain Trainer had saved it
    found = find_whole_checkpoint(tmp_path)[0]
    if name != "trainer_state.json":
        assert found == newest
    elif found == newest:
        state = json.loads(path.read_text())
        assert type(state["global_step"]) is int and state["global_step"] >= 0
        assert all(type(row) is dict for row in state.get("log_history", ()))
