# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints at other lengths than their own: settings, results, the file, the command line."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import BertConfig, BertForMaskedLM

from modeling_gau import GAUConfig, GAUError, GAUForMaskedLM, GAUForSequenceClassification, GAUModel
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS
from modeling_gau.lengths import measuring as length_generalization
from modeling_gau.lengths.attention_statistics import ATTENTION_STATISTICS
from modeling_gau.lengths.measuring import (
    Computation,
    LengthArguments,
    LoadedCheckpoint,
    default_lengths,
    main,
    measure_length_generalization,
    read_texts,
    shuffle_context,
)
from modeling_gau.lengths.results import (
    COLUMNS,
    growth_exponents,
    length_tables,
    power_law_exponent,
    read_results,
    statistics_table,
)
from modeling_gau.lengths.settings import NOT_USED, Cell, Settings, has_learned_parameter, resolve_fixed_n
from modeling_gau.runs import models
from modeling_gau.runs.tables import write_csv
from modeling_gau.text.evaluation_rows import mask_windows
from modeling_gau.text.long_context import repeat_passages
from modeling_gau.text.masking import Masking
from modeling_gau.text.tokenization import encode_texts, train_tokenizer


TRAINED = 16
LENGTHS = [8, 16, 32]
WORDS = "the old sea captain saw a white whale near his small boat and called every sailor to look at it".split()
DEFAULTS, FLOAT32, WITHOUT_STATISTICS = Settings(), Computation(), Computation(statistics=False)
SCALINGS = ("none", "linear", "ntk", "yarn")
ROPE = {"rope_theta": 10000.0, "factor": 2.0}


def story(number, length=60):
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(WORDS, length)).capitalize() + "."


DOCUMENTS = [story(number) for number in range(12)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(Dataset.from_dict({"text": DOCUMENTS}), "wordpiece", 200)


def save_checkpoint(path, tokenizer, normalization="softmax_plus", seed=0, kind=GAUForMaskedLM, **changes):
    torch.manual_seed(seed)
    config = GAUConfig(
        **{
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "attention_key_size": 8,
            "num_hidden_layers": 2, "attention_normalization": normalization, "reference_length": TRAINED,
            "softmax_plus_min_length": 2, "initializer_range": 0.5,
        } | changes,
    )  # fmt: skip
    kind(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, tokenizer):
    """Name of a normalization -> a checkpoint that was trained with it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        name: save_checkpoint(folder / name, tokenizer, name, seed)
        for seed, name in enumerate(ATTENTION_NORMALIZATIONS)
    }


@pytest.fixture(scope="module")
def windows(tokenizer):
    return mask_windows(encode_texts(DOCUMENTS, tokenizer), Masking(tokenizer, 0.2), LENGTHS, 150)


METRICS_OF_A_MODEL = (
    *(f"{name}_copy_beyond_{d}" for d in (8, 64, 512) for name in ("loss", "accuracy", "masked_tokens")),
    "constant_guess_accuracy",
    "loss",
    "accuracy",
    "masked_tokens",
)
METRICS_OF_A_CELL = 2 * len(ATTENTION_STATISTICS) + len(METRICS_OF_A_MODEL)


def measure(checkpoint, settings=DEFAULTS, lengths=LENGTHS, max_tokens=150, **arguments):
    names = [checkpoint] if isinstance(checkpoint, str) else checkpoint
    return measure_length_generalization(
        names, DOCUMENTS, settings, lengths=lengths, max_tokens=max_tokens, device="cpu", **arguments
    )


def metrics(rows, **setting):
    """(layer, metric) -> value of the rows of one cell."""
    chosen = [row for row in rows if all(row[name] == str(value) for name, value in setting.items())]
    found = {(row["layer"], row["metric"]): row["value"] for row in chosen}
    assert len(chosen) == len(found) == METRICS_OF_A_CELL
    return found


def measure_cell(loaded, cell, windows, run=FLOAT32, seed=0):
    loaded.configure(cell)
    return loaded.measure(cell, windows, run, tqdm(disable=True), seed)


def own_cell(length, normalization="softmax_plus", n="dynamic", scaling="none", context="intact"):
    return Cell(normalization, n, scaling, context, length)


# Settings


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("dynamic", 128, None), (NOT_USED, 128, None), ("train", 128, 512), ("64", 128, 64), ("100000", 8, 100_000),
        ("n^0", 128, 512), ("n^1", 128, 128), ("n^0.5", 128, 256), ("n^0.5", 2048, 1024), ("n^0.50", 2048, 1024),
        ("n^-1", 1024, 256), ("n^2", 8, 1), ("n^0.5", 1000, round(512 * (1000 / 512) ** 0.5)), ("n^1", 999, 999),
    ],
)  # fmt: skip
def test_fixed_n(text, length, expected):
    assert resolve_fixed_n(text, 512, length) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "n", "n^", "n^x", "n^.5", "n^1e2", "N^0.5", "trained", "064"])
def test_unknown_fixed_n(text):
    with pytest.raises(ValueError, match=r"fixed_n '.*Allowed: dynamic, train, own, a positive number, or n\^p"):
        Settings(fixed_n=("dynamic", text))


def test_cells_combine_all_settings_without_repetitions():
    config = GAUConfig(attention_normalization="squared_relu")
    assert list(Settings().cells(config, 16, [8, 32])) == [
        Cell("squared_relu", n, "none", "intact", length) for length in (8, 32) for n in ("dynamic", "train")
    ]
    settings = Settings(
        fixed_n=("dynamic", "n^0.5", "dynamic"),
        attention_normalization=("softmax", "softmax_plus", "normalized_squared_relu", "softmax"),
        position_scaling=("none", "yarn", "ntk", "yarn"),
        context=("intact", "shuffled", "intact"),
    )
    cells = list(settings.cells(config, 16, [8, 16, 17, 32, 32]))
    assert len(cells) == len(set(cells))
    expected = {
        Cell(name, n, scaling, context, length)
        for name, of_n in (
            ("softmax", [NOT_USED]),
            ("softmax_plus", ["dynamic", "n^0.5"]),
            ("normalized_squared_relu", [NOT_USED]),
        )
        for n in of_n
        for context in ("intact", "shuffled")
        for scaling, lengths in (("none", (8, 16, 17, 32)), ("yarn", (17, 32)), ("ntk", (17, 32)))
        for length in lengths
    }
    assert set(cells) == expected


def test_default_lengths(tmp_path, tokenizer):
    assert default_lengths(512) == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    assert default_lengths(100) == [16, 32, 64, 100, 128, 256, 512]
    assert default_lengths(2) == [2, 16]
    path = save_checkpoint(tmp_path, tokenizer, "softmax", reference_length=6)
    rows = measure(path, lengths=None, computation=WITHOUT_STATISTICS)
    assert [row["length"] for row in rows if row["metric"] == "loss"] == ["6", "16", "32"]


@pytest.mark.parametrize("normalization", ["softmax_plus", "squared_relu"])
def test_powers_of_n(checkpoints, normalization):
    settings = Settings(fixed_n=("dynamic", "train", "n^0", "n^1", "n^0.5", "16", "40"))
    rows = measure(checkpoints[normalization], settings)
    for length in LENGTHS:
        found = {n: metrics(rows, length=length, n=n) for n in settings.fixed_n}
        assert found["n^0"] == found["train"] == found["16"]
        assert found["n^1"] == found["dynamic"]
        # At the training length all are the same but the number.
        distinct = [found["dynamic"], found["train"], found["n^0.5"], found["40"]]
        distinct = [tuple(values.items()) for values in distinct]
        assert len(set(distinct)) == (2 if length == TRAINED else 4)
    written = {(row["n"], row["length"]): row["fixed_n"] for row in rows}
    assert written["dynamic", "32"] == "" and written["train", "32"] == "16" and written["n^0.5", "32"] == "23"


def test_scaled_positions_have_the_frequencies_that_they_should(checkpoints):
    loaded = LoadedCheckpoint(checkpoints["softmax_plus"], "cpu")
    own = 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    expected = {"none": own, "linear": own / 4, "ntk": (10000.0 * 4 ** (8 / 6)) ** (-torch.arange(0, 8, 2) / 8)}
    positions = torch.arange(64)[None]
    for scaling, frequencies in expected.items():
        loaded.configure(own_cell(64, scaling=scaling))
        cos, sin = loaded.model.model.rotary_emb(torch.zeros(1, 64, 16), positions)
        angles = torch.arange(64)[:, None] * frequencies
        torch.testing.assert_close(cos[0], angles.cos(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sin[0], angles.sin(), rtol=1e-4, atol=1e-4)
    assert expected["ntk"][-1] == pytest.approx(own[-1] / 4)  # the slowest pair is interpolated, the fastest stays


def test_positions_that_are_scaled_already(tmp_path, tokenizer, windows):
    path = save_checkpoint(tmp_path, tokenizer, rope_parameters=ROPE | {"rope_type": "linear"})
    with pytest.raises(ValueError, match=r"positions of .* are scaled already .*with position_scaling none"):
        measure(path, Settings(position_scaling=("none", "yarn")))
    measured = measure_cell(LoadedCheckpoint(path, "cpu"), own_cell(32), windows)
    plain = LoadedCheckpoint(save_checkpoint(tmp_path / "plain", tokenizer), "cpu", trained_length=16)
    assert measured == measure_cell(plain, own_cell(32, scaling="linear"), windows)


def test_a_normalization_with_a_parameter_of_its_own_is_refused(checkpoints):
    with pytest.raises(ValueError, match="softmax_sink on a checkpoint of squared_relu: one of them has a learned"):
        measure(checkpoints["squared_relu"], Settings(attention_normalization=("softmax_sink",)))


def test_the_order_of_cells_does_not_matter(checkpoints, windows):
    settings = Settings(
        fixed_n=("dynamic", "7"),
        attention_normalization=tuple(name for name in ATTENTION_NORMALIZATIONS if not has_learned_parameter(name)),
        position_scaling=SCALINGS,
        context=("intact", "shuffled"),
    )
    path = checkpoints["squared_relu"]
    loaded = LoadedCheckpoint(path, "cpu")
    cells = list(settings.cells(loaded.model.config, TRAINED, [32]))
    assert len(cells) == 10 * 2 * len(SCALINGS)  # four normalizations with two n, two without n
    order = np.random.default_rng(0).permutation(len(cells))
    found = {cells[place]: measure_cell(loaded, cells[place], windows) for place in order}
    for cell in cells[::-1]:
        assert measure_cell(loaded, cell, windows) == found[cell]
    for cell in cells[::7]:
        assert measure_cell(LoadedCheckpoint(path, "cpu"), cell, windows) == found[cell]


def test_own_n_and_position_limit_of_a_checkpoint_do_not_show(tmp_path, tokenizer, windows):
    path = save_checkpoint(tmp_path / "plain", tokenizer)
    other = save_checkpoint(tmp_path / "other", tokenizer, fixed_n=5, max_position_embeddings=64)
    for options in ({}, {"n": "train"}, {"normalization": "softmax", "n": NOT_USED}, {"scaling": "ntk"}):
        cell = own_cell(32, **options)
        plain = measure_cell(LoadedCheckpoint(path, "cpu"), cell, windows)
        assert measure_cell(LoadedCheckpoint(other, "cpu"), cell, windows) == plain


def losses(rows, **setting):
    chosen = [row for row in rows if all(row[name] == str(value) for name, value in setting.items())]
    return {(row["n"], row["length"]): row["value"] for row in chosen if row["metric"] == "loss"}


def plain_loss(path, windows, length, **loaded_with):
    """By a checkpoint alone, without the code under test."""
    model = GAUForMaskedLM.from_pretrained(path, **loaded_with).eval()
    inputs, labels = (torch.from_numpy(rows).long() for rows in windows.rows(length))
    with torch.no_grad():
        return pytest.approx(float(model(inputs, labels=labels).loss), rel=1e-5)


def cell_loss(loaded, cell, windows, run=FLOAT32, seed=0):
    return next(value for _, name, value in measure_cell(loaded, cell, windows, run, seed) if name == "loss")


def test_another_training_length_leaves_the_model_as_it_is(checkpoints, windows):
    """The reference length N of log n / log N is a part of the model: only n changes."""
    path = checkpoints["softmax_plus"]
    settings = Settings(fixed_n=("dynamic", "train", "16", "8"), attention_normalization=("softmax_plus", "softmax"))
    rows = measure(path, settings, trained_length=8, computation=WITHOUT_STATISTICS)
    own = measure(path, settings, computation=WITHOUT_STATISTICS)
    assert {row["fixed_n"] for row in rows if row["n"] == "train"} == {"8"}
    assert {row["trained_length"] for row in rows} == {"8"}
    of_model, of_own = (losses(found, attention_normalization="softmax_plus") for found in (rows, own))
    for length in map(str, LENGTHS):
        for n in ("dynamic", "16", "8"):
            assert of_model[n, length] == of_own[n, length]
        assert of_model["train", length] == of_model["8", length] != of_own["train", length] == of_own["16", length]
    assert losses(rows, n=NOT_USED) == losses(own, n=NOT_USED)
    loaded = LoadedCheckpoint(path, "cpu", trained_length=8)
    for n, fixed_n in (("dynamic", None), ("train", 8)):  # with the reference length of 16
        assert cell_loss(loaded, own_cell(32, n=n), windows) == plain_loss(path, windows, 32, fixed_n=fixed_n)


@pytest.mark.parametrize("normalization", ["softmax", "squared_relu"])
def test_softmax_plus_in_place_of_another_refers_to_the_training_length(checkpoints, windows, normalization):
    path = checkpoints[normalization]
    plain_softmax = plain_loss(path, windows, 32, attention_normalization="softmax")
    for trained in (8, None):
        loaded, reference, of_n = LoadedCheckpoint(path, "cpu", trained), trained or TRAINED, {}
        for length, n, fixed_n in ((32, "dynamic", None), (32, "train", reference), (8, "dynamic", None)):
            changes = {"reference_length": reference, "fixed_n": fixed_n, "attention_normalization": "softmax_plus"}
            of_n[length, n] = cell_loss(loaded, own_cell(length, n=n), windows)
            assert of_n[length, n] == plain_loss(path, windows, length, **changes)
        # At n = N a softmax.
        assert of_n[32, "train"] == plain_softmax and of_n[32, "dynamic"] != plain_softmax


def test_own_fixed_n(tmp_path, tokenizer, windows, checkpoints, caplog):
    path = save_checkpoint(tmp_path / "of 5", tokenizer, "squared_relu", fixed_n=5)
    rows = measure(path, Settings(fixed_n=("dynamic", "own", "5")), mlm_probability=0.2)
    for length in LENGTHS:
        own, dynamic, five = (metrics(rows, length=length, n=n) for n in ("own", "dynamic", "5"))
        assert own == five != dynamic
        assert float(own["", "loss"]) == plain_loss(path, windows, length)  # nothing but the checkpoint
    assert {row["fixed_n"] for row in rows if row["n"] == "own"} == {"5"}
    # Of a checkpoint without one, 'own' is dynamic.
    rows = measure(checkpoints["squared_relu"], Settings(fixed_n=("dynamic", "own")))
    assert {row["fixed_n"] for row in rows} == {""}
    for length in LENGTHS:
        assert metrics(rows, length=length, n="own") == metrics(rows, length=length, n="dynamic")
    measure(path, lengths=[8], max_tokens=100, trained_length=5)  # n 'train' is the same
    assert not caplog.records
    measure(path, lengths=[8], max_tokens=100)
    assert caplog.text.count("has a fixed_n of 5: add --fixed_n own to measure it") == 1


@pytest.mark.parametrize(
    ("normalization", "fixed_n", "warns"),
    [("squared_relu", "train", True), ("squared_relu", "own", False), ("squared_relu", "dynamic", False),
     ("softmax", "train", False)],
)  # fmt: skip
def test_fixed_n_with_local_layers_warns(tmp_path, tokenizer, caplog, normalization, fixed_n, warns):
    local = {"sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]}
    path = save_checkpoint(tmp_path, tokenizer, normalization, **local)
    measure(path, Settings(fixed_n=(fixed_n,)), lengths=[8])
    assert ("layers of local attention, where n counts the keys in the window" in caplog.text) == warns


# Loss and accuracy


PLAIN = [
    (own_cell(8), {}),
    (own_cell(32, n="train"), {"fixed_n": 16}),
    (own_cell(32, n="n^0.5"), {"fixed_n": 23}),
    (own_cell(32, "softmax", NOT_USED), {"attention_normalization": "softmax"}),
    (own_cell(16, "squared_relu", "9"), {"attention_normalization": "squared_relu", "fixed_n": 9}),
    (own_cell(32, scaling="linear"), {"rope_parameters": ROPE | {"rope_type": "linear"}}),
    (
        own_cell(32, scaling="ntk"),
        {"rope_parameters": ROPE | {"rope_type": "dynamic", "factor": 1.0}, "max_position_embeddings": 16},
    ),
    (
        own_cell(32, scaling="yarn"),
        {
            "rope_parameters": ROPE | {"rope_type": "yarn", "original_max_position_embeddings": 16},
            "max_position_embeddings": 32,
        },
    ),
]


@pytest.mark.parametrize(("cell", "loaded_with"), PLAIN)
@pytest.mark.parametrize("statistics", [True, False])
def test_loss_and_accuracy_equal_a_plain_loop(checkpoints, windows, cell, loaded_with, statistics):
    path = checkpoints["softmax_plus"]
    model = GAUForMaskedLM.from_pretrained(path, **loaded_with).eval()
    inputs, labels = (torch.from_numpy(rows).long() for rows in windows.rows(cell.length))
    assert cell.length != 8 or (labels == -100).all(1).any()  # a row may have nothing to predict
    loss, right, count = 0.0, 0, 0
    for row, asked in zip(inputs, labels, strict=True):
        number = int((asked != -100).sum())
        if number:
            with torch.no_grad():
                output = model(row[None], labels=asked[None])
            loss += float(output.loss) * number
            right += int((output.logits[0].argmax(-1) == asked).sum())
            count += number
    for batch_tokens in (1, 50, 10**6):
        run = Computation(batch_tokens=batch_tokens, statistics=statistics)
        found = measure_cell(LoadedCheckpoint(path, "cpu"), cell, windows, run)
        assert len(found) == (METRICS_OF_A_CELL if statistics else len(METRICS_OF_A_MODEL))
        found = {name: value for layer, name, value in found if layer is None}
        assert found["masked_tokens"] == count == windows.masked_tokens
        assert found["accuracy"] * count == pytest.approx(right)
        assert found["loss"] == pytest.approx(loss / count, rel=1e-5)


def test_repeated_passages_are_added_to_a_file(checkpoints, tmp_path):
    path, arguments = tmp_path / "lengths.csv", {"settings": Settings(("dynamic",)), "lengths": [32]}
    measure(checkpoints["squared_relu"], **arguments, output_file=path)
    run = Computation(repeated_passages=True)
    for _ in range(2):
        rows = measure(checkpoints["squared_relu"], **arguments, output_file=path, computation=run)
        assert "loss_passage_repeated" in {row["metric"] for row in rows}
        assert read_results(path) == rows


def test_yarn_leaves_squared_relu_weights_their_size(checkpoints):
    """Its factor on cos and sin suits a softmax; a squared-ReLU weight would grow with the factor's fourth power."""
    factors = {}
    for name in ("softmax_plus", "squared_relu"):
        loaded = LoadedCheckpoint(checkpoints[name], "cpu")
        loaded.configure(Cell(name, "train", "yarn", "intact", 32))
        factors[name] = loaded.model.model.rotary_emb.attention_scaling
    assert factors["squared_relu"] == 1.0 < factors["softmax_plus"]


def test_distant_copies_and_repeated_passages_equal_a_plain_loop(checkpoints, windows):
    path, cell = checkpoints["softmax_plus"], own_cell(32)
    run = Computation(statistics=False, repeated_passages=True)
    found = {name: value for _, name, value in measure_cell(LoadedCheckpoint(path, "cpu"), cell, windows, run, seed=3)}
    inputs, labels = windows.rows(32)
    model = GAUForMaskedLM.from_pretrained(path, sparse_prediction=False).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(inputs).long()).logits.log_softmax(-1)
    losses, asked = [], [label for label in labels.ravel() if label != -100]
    for (row, place), label in np.ndenumerate(labels):
        copies = np.flatnonzero(inputs[row] == label)
        if label != -100 and len(copies) and min(abs(copies - place)) > 8:
            losses.append(-logits[row, place, label].item())
    assert found["masked_tokens_copy_beyond_8"] == len(losses) > 0
    assert found["loss_copy_beyond_8"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert math.isnan(found["loss_copy_beyond_512"]) and found["masked_tokens_copy_beyond_512"] == 0
    assert found["constant_guess_accuracy"] == max(map(asked.count, asked)) / len(asked)
    made = repeat_passages(windows, 32, 15, rows=max(16, windows.inputs.size // 32), seed=3)
    for name, rows in (("repeated", made.inputs), ("alone", made.alone)):
        with torch.no_grad():
            loss = model(torch.from_numpy(rows).long(), labels=torch.from_numpy(made.labels).long()).loss
        assert found[f"loss_passage_{name}"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["loss_passage_repeated"] != found["loss_passage_alone"]


def test_bf16_is_autocast(checkpoints, windows):
    path, cell = checkpoints["softmax_plus"], own_cell(32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain_loss(path, windows, 32).expected
    exact = cell_loss(LoadedCheckpoint(path, "cpu"), cell, windows)
    rounded = cell_loss(LoadedCheckpoint(path, "cpu"), cell, windows, Computation(bf16=True))
    assert rounded == pytest.approx(expected, rel=2e-4)
    assert exact != rounded and exact == pytest.approx(rounded, rel=0.05)


def test_shuffled_context(windows):
    inputs, labels = windows.rows(32)
    before = inputs.copy(), labels.copy()
    shuffled = shuffle_context(inputs, labels, 0)
    assert (inputs == before[0]).all() and (labels == before[1]).all()
    assert (shuffled[:, 0] == 2).all() and (shuffled[:, -1] == 3).all()
    asked = labels != -100
    assert asked.any() and (shuffled[asked] == inputs[asked]).all()
    for row, original, fixed in zip(shuffled, inputs, asked, strict=True):
        assert sorted(row) == sorted(original)  # nothing is lost and nothing comes from another row
        free = np.flatnonzero(~fixed)[1:-1]
        assert (row[free] != original[free]).mean() > 0.5
    assert (shuffle_context(inputs, labels, 0) == shuffled).all()
    assert (shuffle_context(inputs, labels, 1) != shuffled).any()
    # All places can be reached from all.
    row, free = np.arange(8)[None], np.full((1, 8), -100)
    reached = {
        (place, int(token)) for seed in range(300) for place, token in enumerate(shuffle_context(row, free, seed)[0])
    }
    assert reached == {(a, b) for a in range(1, 7) for b in range(1, 7)} | {(0, 0), (7, 7)}


def test_shuffled_contexts_are_measured_with_the_seed(checkpoints, windows, monkeypatch):
    loaded = LoadedCheckpoint(checkpoints["softmax_plus"], "cpu")
    inputs, labels = windows.rows(32)
    found = [cell_loss(loaded, own_cell(32, context="shuffled"), windows, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    shuffled = SimpleNamespace(rows=lambda length: (shuffle_context(inputs, labels, 1), labels))
    assert found[2] == plain_loss(loaded.name, shuffled, 32)
    # Through the whole, too: the same masks, another shuffle.
    seeds, measured = [], LoadedCheckpoint.measure
    monkeypatch.setattr(LoadedCheckpoint, "measure", lambda *given: [seeds.append(given[-1]), measured(*given)][1])
    measure(loaded.name, Settings(fixed_n=("train",), context=("shuffled",)), [32], seed=5)
    assert seeds == [5]


# All together


def test_rows_of_results(checkpoints):
    rows = measure([checkpoints["softmax_plus"], checkpoints["softmax"]])
    assert all(tuple(sorted(row)) == tuple(sorted(COLUMNS)) for row in rows)
    assert all(isinstance(value, str) for row in rows for value in row.values())
    per_cell = METRICS_OF_A_CELL
    assert len(rows) == per_cell * len(LENGTHS) * (2 + 1)
    assert {row["checkpoint"] for row in rows} == {checkpoints["softmax_plus"], checkpoints["softmax"]}
    assert len({row["corpus"] for row in rows}) == 1 and len({row["weights"] for row in rows}) == 2
    counts = {row["value"] for row in rows if row["metric"] == "masked_tokens"}
    assert len(counts) == 1 and int(counts.pop()) > 10  # every length is asked the same
    assert {row["layer"] for row in rows} == {"", "0", "1"}
    without = measure(checkpoints["softmax"], computation=Computation(statistics=False))
    assert [row for row in rows if row["checkpoint"] == checkpoints["softmax"] and row["layer"] == ""] == without


def test_documents_are_read_once_and_no_further_than_needed(checkpoints):
    read = []

    def texts():
        for number, text in enumerate(["too short", *DOCUMENTS]):
            read.append(number)
            yield text

    names = list(checkpoints.values())[:2]
    rows = measure_length_generalization(names, texts(), lengths=[32, 8], max_tokens=90, device="cpu")
    assert read == [0, 1, 2]  # three windows of 30 tokens, two of a document
    assert len({row["corpus"] for row in rows}) == 1


def test_short_texts_are_not_kept(checkpoints, monkeypatch):
    """Those that cannot fill a row of the shortest of the checkpoints' longest rows, whatever the tokenizer."""
    made, real = [], length_generalization._LongTexts

    def keeping(*given):
        made.append(real(*given))
        return made[-1]

    monkeypatch.setattr(length_generalization, "_LongTexts", keeping)
    texts = ["é" * 14, "x" * 29, "x" * 30, "é" * 15, *DOCUMENTS[:2], "too short"]  # of 28, 29, 30 and 30 bytes
    names = list(checkpoints.values())[:2]
    rows = measure_length_generalization(names, iter(texts), lengths=[32, 8], max_tokens=120, device="cpu")
    (texts_of_run,) = made
    assert texts_of_run._kept == ["x" * 30, "é" * 15, *DOCUMENTS[:2]]
    fresh = measure_length_generalization(names, DOCUMENTS[:2], lengths=[32, 8], max_tokens=120, device="cpu")
    assert rows == fresh


def test_too_little_text_warns(checkpoints, caplog):
    name, settings = checkpoints["softmax"], {"lengths": [32], "computation": Computation(statistics=False)}
    measure(name, max_tokens=30 * 2 * len(DOCUMENTS), **settings)
    assert not caplog.records
    measure(name, max_tokens=1000, **settings)
    (record,) = caplog.records
    expected = "The documents with 32 tokens or more give 720 tokens, fewer than the 1,000 requested."
    assert record.getMessage() == expected


def test_repeated_lengths_and_settings_are_measured_once(checkpoints):
    name = checkpoints["softmax_plus"]
    once = measure(name, lengths=[8, 32])
    assert measure(name, Settings(fixed_n=("dynamic", "train", "train")), lengths=[8, 32, 8]) == once
    assert measure([name, name + "/", name], lengths=[8, 32]) == once


def test_all_checkpoints_are_checked_before_the_first_is_measured(tmp_path, checkpoints, tokenizer, forwards):
    bert = BertForMaskedLM(BertConfig(vocab_size=60, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    bert.save_pretrained(tmp_path / "bert")
    save_checkpoint(tmp_path / "scaled", tokenizer, rope_parameters=ROPE | {"rope_type": "linear"})
    save_checkpoint(tmp_path / "longer", tokenizer, reference_length=64)
    for second, kind, message in (
        ("bert", ValueError, r"bert is a bert checkpoint; only GAU models can be measured"),
        ("scaled", ValueError, "scaled already"),
        ("longer", ValueError, "Nothing to measure for .*longer: .* only beyond its training length of 64"),
        ("nowhere", GAUError, "nowhere has no config.json"),
    ):
        texts = (pytest.fail("Text was read.") for _ in range(1))
        with pytest.raises(kind, match=message):
            measure_length_generalization(
                [checkpoints["softmax"], str(tmp_path / second)], texts, Settings(position_scaling=("yarn",)),
                lengths=[32], device="cpu", output_file=tmp_path / "out.csv",
            )  # fmt: skip
    assert not forwards and not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("kind", [GAUForSequenceClassification, GAUModel, GAUForMaskedLM])
def test_checkpoints_without_a_decoder(tmp_path, tokenizer, forwards, kind, caplog):
    path = save_checkpoint(tmp_path / "untied", tokenizer, kind=kind, tie_word_embeddings=False)
    if kind is GAUForMaskedLM:
        measure(path, lengths=[8], max_tokens=100)  # as it is
        assert not caplog.records and forwards
        tensors = load_file(tmp_path / "untied" / "model.safetensors")
        del tensors["decoder.weight"]
        save_file(tensors, tmp_path / "untied" / "model.safetensors", {"format": "pt"})
    forwards.clear()
    with pytest.raises(
        ValueError, match=r"decoder.weight \(missing\)\. Name a masked language model, not one fine-tuned"
    ):
        measure(path, output_file=tmp_path / "out.csv")
    assert not forwards and not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("kind", [GAUForSequenceClassification, GAUModel, GAUForMaskedLM])
def test_tied_embeddings_of_another_task_warn(tmp_path, tokenizer, kind, caplog):
    path = save_checkpoint(tmp_path, tokenizer, kind=kind)
    rows = measure(path, lengths=[8])
    warning = f"{path} was saved as {kind.__name__}: fine-tuning may have changed its masked language model"
    assert caplog.text.count(warning) == (kind is not GAUForMaskedLM)
    assert len(rows) == 2 * METRICS_OF_A_CELL


@pytest.fixture
def forwards(monkeypatch):
    """The shapes of the batches that models are given."""
    shapes, forward = [], GAUForMaskedLM.forward

    def counting(self, *args, **kwargs):
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(GAUForMaskedLM, "forward", counting)
    return shapes


def test_results_do_not_depend_on_the_other_lengths(checkpoints):
    name, without = checkpoints["softmax"], Computation(statistics=False)
    results = [measure(name, lengths=lengths, computation=without) for lengths in ([32], [8, 32], [16, 32], [32, 4])]
    for rows in results:
        assert [row for row in rows if row["length"] == "32"] == results[0]
    assert len({row["corpus"] for rows in results for row in rows}) == 1


# The file


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tokenizer):
    """A checkpoint, whose name has a character of two bytes, and its results in a file and as rows."""
    folder = tmp_path_factory.mktemp("finished")
    checkpoint = save_checkpoint(folder / "modèle, grand", tokenizer)
    rows = measure(checkpoint, output_file=folder / "new" / "folder" / "lengths.csv")
    return checkpoint, (folder / "new" / "folder" / "lengths.csv").read_bytes(), rows


@pytest.fixture
def path(finished, tmp_path):
    """A copy of the file."""
    path = tmp_path / "lengths.csv"
    path.write_bytes(finished[1])
    return path


def as_set(rows):
    found = {tuple(row[name] for name in COLUMNS) for row in rows}
    assert len(found) == len(rows)
    return found


def test_the_file_holds_what_is_returned(finished, path):
    checkpoint, content, rows = finished
    assert content.decode().splitlines()[0] == ",".join(COLUMNS) and content.endswith(b"\n") and b"\r" not in content
    assert read_results(path) == rows == measure(checkpoint)


def cuts(content):
    """Places to cut a file at -> cells that are whole before."""
    lines = content.splitlines(keepends=True)
    ends = np.cumsum([len(line) for line in lines]).tolist()
    cell_ends = [end for line, end in zip(lines, ends, strict=True) if b",masked_tokens," in line]
    assert len(cell_ends) == 6
    places = [
        ends[0], ends[0] + 5, ends[1], ends[4] + 20,  # in the first cell
        cell_ends[0] - 1, cell_ends[0], cell_ends[0] + 1, cell_ends[0] + 30,
        content.index("è".encode(), cell_ends[1]) + 1,  # within a character
        cell_ends[2] + len(lines[1]), cell_ends[2] + len(lines[1]) + 8,
        cell_ends[4] - 3, cell_ends[5] - 1, cell_ends[5],
    ]  # fmt: skip
    return {place: sum(end <= place for end in cell_ends) for place in places}


def test_an_interrupted_run_goes_on(finished, path, forwards):
    checkpoint, content, expected = finished
    for place, whole in cuts(content).items():
        path.write_bytes(content[:place])
        forwards.clear()
        assert measure(checkpoint, output_file=path) == expected, place
        assert as_set(read_results(path)) == as_set(expected), place
        assert len(forwards) == 6 - whole, place  # a batch for each cell
    assert [file.name for file in path.parent.iterdir()] == ["lengths.csv"]


def test_a_run_that_is_stopped_within_a_cell_goes_on(finished, tmp_path, monkeypatch):
    checkpoint, content, _ = finished
    path, count, real = tmp_path / "lengths.csv", [], LoadedCheckpoint.measure

    def stopped(self, *arguments):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LoadedCheckpoint, "measure", stopped)
        measure(checkpoint, output_file=path)
    assert len([row for row in read_results(path) if row["metric"] == "masked_tokens"]) == 3
    measure(checkpoint, output_file=path)
    assert path.read_bytes() == content


def test_only_the_requested_rows_are_returned(finished, path, checkpoints, forwards):
    """Cells in the file are not measured again, others are added to it."""
    checkpoint, content, whole = finished
    assert measure(checkpoint, output_file=path) == whole
    assert not forwards and path.read_bytes() == content
    other, settings = checkpoints["softmax"], Settings(fixed_n=("train", "own", "dynamic"))
    rows = measure([other, checkpoint], settings, lengths=[32, 8], output_file=path)
    assert len(forwards) == 2 + 2  # softmax, and n 'own'
    cells = dict.fromkeys((row["checkpoint"], row["length"], row["n"]) for row in rows)
    assert list(cells) == [(other, length, NOT_USED) for length in ("32", "8")] + [
        (checkpoint, length, n) for length in ("32", "8") for n in settings.fixed_n
    ]
    assert path.read_bytes().startswith(content) and as_set(rows) < as_set(read_results(path))
    forwards.clear()
    assert measure(checkpoint, lengths=[32, 16], output_file=path) == [
        *(row for row in whole if row["length"] == "32"),
        *(row for row in whole if row["length"] == "16"),
    ]
    assert not forwards
    assert measure([other, checkpoint], settings, lengths=[32, 8]) == rows


def test_statistics_can_be_added_later(finished, tmp_path, forwards):
    checkpoint, _, rows = finished
    path = tmp_path / "lengths.csv"
    measure(checkpoint, output_file=path, computation=WITHOUT_STATISTICS)
    assert not any(row["layer"] for row in read_results(path))
    measure(checkpoint, output_file=path)
    assert as_set(read_results(path)) == as_set(rows) and len(forwards) == 12
    measure(checkpoint, output_file=path, computation=WITHOUT_STATISTICS)
    assert len(forwards) == 12


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 1}, "masked text or precision"),
        ({"max_tokens": 90}, "masked text or precision"),
        ({"computation": Computation(bf16=True)}, "masked text or precision"),
        ({"trained_length": 8}, "training length"),
    ],
)
def test_results_of_something_else_raise(finished, path, change, what):
    checkpoint, content, _ = finished
    path.write_bytes(content[:-40])  # interrupted
    with pytest.raises(ValueError) as error:
        measure(checkpoint, output_file=path, **change)
    assert f"has results of {checkpoint} with other {what} (" in str(error.value)
    assert path.read_bytes() == content[:-40] and len(list(path.parent.iterdir())) == 1


def change_weights(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.1.gau.k_scaleoffset.weight"][3] += 1e-4
    save_file(tensors, checkpoint / "model.safetensors", {"format": "pt"})


def change_config(checkpoint, **changes):
    path = Path(checkpoint) / "config.json"
    config = json.loads(path.read_text())
    if "rope_theta" in changes:
        config["rope_parameters"] |= {"rope_theta": changes.pop("rope_theta")}
    path.write_text(json.dumps(config | changes))


@pytest.fixture
def changeable(finished):
    """The finished checkpoint, which is as it was after the test."""
    folder = Path(finished[0])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    yield folder
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.parametrize(
    "change", [{}, {"rope_theta": 5000.0}, {"layer_norm_eps": 1e-3}, {"softmax_plus_min_length": 9}]
)
def test_a_checkpoint_that_changed_raises(finished, changeable, path, forwards, change):
    """Its weights, or the configuration, which is a part of the model: results would be of two."""
    change_config(changeable, **change) if change else change_weights(changeable)
    with pytest.raises(ValueError) as error:
        measure(finished[0], output_file=path)
    assert f"has results of {finished[0]} with other weights (" in str(error.value)
    assert path.read_bytes() == finished[1] and not forwards


def test_fields_that_cells_set_may_change(finished, changeable, path, forwards):
    checkpoint, content, rows = finished
    for change in (
        {"fixed_n": 5},
        {"fixed_n": TRAINED, "architectures": ["GAUModel"]},
        {"attention_normalization": "squared_relu", "transformers_version": "4.0.0"},
        {"architectures": None, "unpad_inputs": False},
    ):
        change_config(changeable, **change)
        settings = Settings(attention_normalization=("softmax_plus",))
        assert measure(checkpoint, settings, output_file=path) == rows, change
        assert not forwards and path.read_bytes() == content, change


def test_a_changed_own_fixed_n_is_measured_again(tmp_path, tokenizer, forwards):
    path, settings = tmp_path / "lengths.csv", Settings(fixed_n=("dynamic", "own"))
    checkpoint = save_checkpoint(tmp_path / "checkpoint", tokenizer, "squared_relu", fixed_n=5)
    first = measure(checkpoint, settings, output_file=path)
    change_config(checkpoint, fixed_n=9)
    forwards.clear()
    rows = measure(checkpoint, settings, output_file=path)
    assert len(forwards) == len(LENGTHS) and rows == measure(checkpoint, settings) and rows != first
    assert {row["fixed_n"] for row in rows if row["n"] == "own"} == {"9"}
    assert as_set(read_results(path)) == as_set(rows)


@pytest.mark.parametrize("with_rows", [True, False])
def test_a_file_with_more_columns_raises_before_anything_is_measured(finished, path, forwards, with_rows):
    checkpoint, content, rows = finished
    head, *lines = content.decode().splitlines()
    more = "\n".join([f"{head},mine,also", *(f"{line},1,2" for line in lines if with_rows)]) + "\n"
    path.write_text(more)
    texts = (pytest.fail("Text was read.") for _ in range(1))
    with pytest.raises(ValueError) as error:
        measure_length_generalization([checkpoint], texts, device="cpu", output_file=path)
    expected = f"{path} has other columns (also, mine), so nothing can be added: choose another --output_file"
    assert expected in str(error.value)
    assert path.read_text() == more and not forwards and len(list(path.parent.iterdir())) == 1
    # Figures and tables can be made of it.
    assert [{name: row[name] for name in COLUMNS} for row in read_results(path)] == (rows if with_rows else [])


def test_columns_in_another_order_are_reordered(finished, path, forwards):
    checkpoint, _, rows = finished
    write_csv(path, [{name: row[name] for name in COLUMNS[::-1]} for row in rows])
    assert measure(checkpoint, output_file=path) == rows and not forwards
    measure(checkpoint, Settings(fixed_n=("7",)), output_file=path)
    found = read_results(path)
    assert found[: len(rows)] == rows and {row["n"] for row in found[len(rows) :]} == {"7"}


@pytest.mark.parametrize("content", [b"", b"text", b"a,b\n1,2\n", b"\xff\xfe\n", b"checkpoint,weights\n"])
def test_a_file_of_something_else_raises(checkpoints, tmp_path, content):
    path = tmp_path / "notes.csv"
    path.write_bytes(content)
    for action in (lambda: measure(checkpoints["softmax"], output_file=path), lambda: read_results(path)):
        with pytest.raises(
            ValueError, match=r"notes\.csv is not a file of length results: its first line is not check"
        ):
            action()
    assert path.read_bytes() == content and len(list(tmp_path.iterdir())) == 1


# What is printed


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.37])
def test_power_law_exponent(exponent):
    lengths = [16, 32, 100, 4096]
    values = [0.3 * length**exponent for length in lengths]
    assert power_law_exponent(lengths, values) == pytest.approx(exponent, abs=1e-9)
    assert power_law_exponent([*lengths, 64], [*values, 0.0]) == pytest.approx(exponent, abs=1e-9)
    assert power_law_exponent(lengths[:2], values[:2]) == pytest.approx(exponent, abs=1e-9)
    logs = [500 + exponent * math.log(length) for length in lengths]  # of what no float can hold
    assert power_law_exponent([8, *lengths], [math.nan, *logs], True) == pytest.approx(exponent, abs=1e-9)
    negative = [-3 + exponent * math.log(length) for length in lengths]
    assert power_law_exponent([*lengths, 1], [*negative, -3.0], True) == pytest.approx(exponent, abs=1e-9)


def test_a_power_law_needs_two_points():
    for points in ({}, {16: 1.0}, {16: 1.0, 32: 0.0, 64: math.nan}):
        assert math.isnan(power_law_exponent(list(points), list(points.values())))
    assert math.isnan(power_law_exponent([16, 16], [1.0, 2.0]))
    assert math.isnan(power_law_exponent([16, 32], [1.0, math.nan], True))


KINKED = [16, 32, 64, 128, 512]


def kinked(before, after, trained=64, factor=0.3, lengths=KINKED):
    """length -> factor * length^before up to the training length, from there on a growth with `after`."""
    return {n: factor * (n**before if n <= trained else trained**before * (n / trained) ** after) for n in lengths}


@pytest.mark.parametrize("metric", ["log_sum_exp", "sum_squared_relu"])
def test_growth_exponents(metric):
    layers = {"0": kinked(1.0, 0.25), "1": kinked(2.0, -0.5, factor=100.0), "2": dict.fromkeys(KINKED, math.nan)}
    values = {
        (n, layer): math.log(value) if metric == "log_sum_exp" else value
        for layer, of_layer in layers.items()
        for n, value in of_layer.items()
    }
    assert growth_exponents(values, metric, 64) == pytest.approx((1.5, -0.125))
    # N need not be a length that was measured; elsewhere than at the kink there are other slopes.
    assert growth_exponents(values, metric, 100) == pytest.approx((1.5, -0.125))
    assert growth_exponents(values, metric, 32)[0] == pytest.approx(1.5)
    assert growth_exponents(values, metric, 32)[1] > 0
    assert growth_exponents(values, metric, 128)[0] < 1.4
    # The order does not matter, and a layer that has values at some lengths alone counts where it can.
    values = dict(reversed(values.items())) | {(16, "3"): 1.0, (32, "3"): 1.0, (64, "3"): math.nan}
    assert growth_exponents(values, metric, 64) == pytest.approx((1.0, -0.125))
    up_to = {key: value for key, value in values.items() if key[0] <= 64}
    assert growth_exponents(up_to, metric, 64) == pytest.approx((1.0, math.nan), nan_ok=True)
    assert growth_exponents(up_to, metric, 16) == pytest.approx((math.nan, 1.0), nan_ok=True)


def test_no_growth_exponents():
    values = {(n, "0"): value for n, value in kinked(1, 1).items()}
    for metric in {*ATTENTION_STATISTICS} - {"log_sum_exp", "sum_squared_relu"}:
        assert all(map(math.isnan, growth_exponents(values, metric, 64)))
    assert all(map(math.isnan, growth_exponents({}, "sum_squared_relu", 64)))
    zeros = {(n, "0"): 0.0 for n in KINKED}  # no score is positive
    assert all(map(math.isnan, growth_exponents(zeros, "sum_squared_relu", 64)))


def test_the_table_of_statistics_has_both_exponents():
    def rows_of(metric, function, **changes):
        layers = {"0": kinked(1.0, 0.25), "1": kinked(2.0, -0.5), "2": dict.fromkeys(KINKED, math.nan)}
        found = []
        for layer, values in layers.items():
            found += handmade(layer, metric, {n: function(value) for n, value in values.items()}, **changes)
        return found

    soft = {"attention_normalization": "softmax", "n": NOT_USED}
    rows = [
        *rows_of("sum_squared_relu", float),
        *rows_of("log_sum_exp", math.log, **soft),
        *rows_of("sum_exp", float, **soft),
        *rows_of("log_sum_exp", lambda value: 1e9, context="shuffled"),
        # N is each checkpoint's own.
        *rows_of("sum_squared_relu", float, checkpoint="b", trained_length="16"),
    ]
    head, *lines = [line.split() for line in statistics_table(rows).splitlines()]
    assert head[-11:] == [*map(str, KINKED), "p", "to", "N", "p", "from", "N"]
    means = [0.3 * (n + n**2) / 2 for n in KINKED[:3]]  # of the two layers that have a value
    relu, soft_logs, soft_sums, other = lines
    assert relu[:5] == ["a", "squared_relu,", "n", "dynamic", "sum_squared_relu"]
    assert relu[5:8] == [f"{mean:.3g}" for mean in means] and relu[10:] == ["1.50", "-0.12"]
    assert soft_logs[:3] == ["a", "softmax", "log_sum_exp"] and soft_logs[8:] == ["1.50", "-0.12"]
    assert soft_sums[:3] == ["a", "softmax", "sum_exp"] and len(soft_sums) == 3 + len(KINKED)
    assert other[0] == "b" and len(other) == 5 + len(KINKED) + 1  # one length up to N


def handmade(layer, metric, values, **changes):
    common = dict.fromkeys(COLUMNS, "") | {
        "checkpoint": "a", "attention_normalization": "squared_relu", "n": "dynamic", "position_scaling": "none",
        "context": "intact", "layer": layer, "metric": metric, "trained_length": "64",
    }  # fmt: skip
    return [common | changes | {"length": str(length), "value": str(value)} for length, value in values.items()]


def test_tables():
    rows = [
        *handmade("", "loss", {8: 2.0, 128: 1.5}),
        *handmade("", "loss", {16: 1.0}, context="shuffled"),
        *handmade("", "accuracy", {8: 0.25}, checkpoint="b"),
        *handmade("0", "sum_squared_relu", {8: 1.0, 32: 4.0}),
        *handmade("1", "sum_squared_relu", {8: 3.0, 32: 12.0}),
        *handmade("0", "entropy", {8: 1.0}),
        *handmade("1", "entropy", {8: math.nan}),
        *handmade("0", "entropy", {8: 7.0}, context="shuffled"),
    ]
    lines = [line.split() for line in length_tables(rows, "loss").splitlines()]
    assert lines == [
        ["checkpoint", "loss", "8", "16", "128"],
        ["a", "squared_relu,", "n", "dynamic", "2.000", "1.500"],
        ["a", "squared_relu,", "n", "dynamic,", "shuffled", "1.000"],
    ]
    assert length_tables(rows).splitlines()[1].split() == ["b", "squared_relu,", "n", "dynamic", "0.250"]
    lines = [line.split()[-9:] for line in statistics_table(rows).splitlines()]
    assert lines == [
        ["layers", "8", "32", "p", "to", "N", "p", "from", "N"],
        ["a", "squared_relu,", "n", "dynamic", "sum_squared_relu", "2", "8", "1.00"],
        ["a", "squared_relu,", "n", "dynamic", "entropy", "1"],
    ]


# Command line


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The documents in a file, as words of a command line."""
    path = tmp_path_factory.mktemp("corpus") / "documents.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in DOCUMENTS))
    return ["--corpus_file", str(path), "--text_column", "body", "--device", "cpu"]


def table_after(output, title):
    """The lines of the printed table whose head begins with `title`, as far as the next empty line."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[: len(title)] == title)
    end = next((number for number in range(start, len(lines)) if not lines[number].strip()), len(lines))
    return [line.split() for line in lines[start:end]]


def test_command_line(checkpoints, corpus, tmp_path, capsys):
    path = tmp_path / "deep" / "lengths.csv"
    names = [checkpoints["softmax_plus"], checkpoints["softmax"]]
    argv = [
        "--model_name_or_path", *names, *corpus, "--lengths", "8", "32", "16", "--fixed_n", "dynamic", "n^0.5",
        "--position_scaling", "none", "yarn", "--context", "intact", "shuffled", "--max_tokens", "100",
        "--mlm_probability", "0.3", "--batch_tokens", "64", "--seed", "3", "--output_file", str(path),
    ]  # fmt: skip
    rows = main(argv)
    output = capsys.readouterr().out
    assert rows == read_results(path)
    settings = Settings(("dynamic", "n^0.5"), (), ("none", "yarn"), ("intact", "shuffled"))
    expected = measure_length_generalization(
        names, DOCUMENTS, settings, lengths=[8, 32, 16], max_tokens=100, mlm_probability=0.3,
        computation=Computation(batch_tokens=64), device="cpu", seed=3,
    )  # fmt: skip
    # One file is read from its beginning.
    assert rows == expected
    for metric in ("loss", "accuracy"):
        head, *lines = table_after(output, ["checkpoint", metric])
        assert head == ["checkpoint", metric, "8", "16", "32"]
        assert len(lines) == 2 * (2 + 1) * 2  # settings x contexts; yarn at 32 alone
        for line in lines:  # a number for each length at which there is a cell
            numbers = [word for word in line if word[-4:-3] == "."]
            assert len(numbers) == (1 if "yarn" in " ".join(line) else 3)
    assert table_after(output, ["checkpoint", "setting"])[0][-9:] == [
        "8", "16", "32", "p", "to", "N", "p", "from", "N",
    ]  # fmt: skip
    assert f"Wrote {path}" in output and f"lengths.figures {path}" in output
    # Nothing more to do, and no statistics asked for.
    assert main([*argv, "--statistics", "none"]) == rows
    output = capsys.readouterr().out
    assert "0 of 16 cells" in output and "0 of 8 cells" in output and "mean over the layers" not in output


def test_command_line_without_a_file(checkpoints, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["--model_name_or_path", checkpoints["squared_relu"], *corpus]
    rows = main([*argv, "--statistics", "none", "--lengths", "8", "--bf16"])
    assert {(row["n"], row["metric"]) for row in rows} == {
        (n, metric) for n in ("dynamic", "train") for metric in METRICS_OF_A_MODEL
    }
    assert all(row["corpus"].endswith("-bf16") for row in rows)
    assert "Wrote" not in capsys.readouterr().out and not list(tmp_path.iterdir())


def length_arguments(**changes):
    return LengthArguments(model_name_or_path=["a"], **changes)


def test_documents_of_a_txt_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one\ntwo\n\nthree\n")
    expected = {"document": ["one\ntwo\n\nthree"], "paragraph": ["one\ntwo", "three"], "line": ["one", "two", "three"]}
    for unit, documents in expected.items():
        args = length_arguments(corpus_file=[str(path)], text_unit=unit)
        assert [text.strip() for text in read_texts(args)] == documents


def test_bad_rows(checkpoints, tmp_path, forwards):
    path = tmp_path / "documents.jsonl"
    rows = [json.dumps({"body": text}) for text in DOCUMENTS[:4]]
    path.write_text("\n".join([rows[0], "no json", *rows[1:]]) + "\n")
    args = length_arguments(corpus_file=[str(path)], text_column="body", skip_bad_rows=True)
    assert list(read_texts(args)) == DOCUMENTS[:4]
    argv = [
        "--model_name_or_path", checkpoints["softmax"], "--corpus_file", str(path), "--text_column", "body",
        "--lengths", "32", "--max_tokens", "200", "--device", "cpu", "--output_file", str(tmp_path / "lengths.csv"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"documents\.jsonl.*\b(line|row) 2\b.*--skip_bad_rows"):
        main(argv)
    assert not forwards and not (tmp_path / "lengths.csv").exists()
    expected = [checkpoints["softmax"]], DOCUMENTS[:4]
    assert main([*argv, "--skip_bad_rows"]) == measure_length_generalization(
        *expected, lengths=[32], max_tokens=200, device="cpu"
    )


def test_hub_options_reach_every_loader(checkpoints, corpus, monkeypatch):
    """Revision, token and folder reach whatever loads a part of a checkpoint, the token the text as well."""
    asked = {}

    def watched(name, function):
        def asking(*given, **options):
            asked.setdefault(name, []).append([options.pop(key) for key in ("revision", "token", "cache_dir")])
            return function(*given, **options)

        return asking

    for name in ("AutoConfig", "AutoTokenizer"):
        real = getattr(models, name).from_pretrained
        monkeypatch.setattr(models, name, SimpleNamespace(from_pretrained=watched(name, real)))
    real = length_generalization.load_with_misfits
    monkeypatch.setattr(length_generalization, "load_with_misfits", watched("model", real))
    argv = ["--model_name_or_path", checkpoints["softmax"], *corpus, "--lengths", "8", "--max_tokens", "30"]
    for given, expected in (
        ("", ["main", None, None]),
        ("--revision v2 --token hf_mine --cache_dir /kept/here", ["v2", "hf_mine", "/kept/here"]),
    ):
        asked.clear()
        main([*argv, *given.split()])
        assert set(asked) == {"AutoConfig", "AutoTokenizer", "model"}
        assert all(options == expected for calls in asked.values() for options in calls)

    def opened(data_args, seed, split, token):
        assert (data_args.dataset_name, data_args.dataset_config_name) == ("some/text", "plain")
        assert (data_args.text_column, data_args.text_unit, data_args.skip_bad_rows) == ("body", "line", True)
        assert (seed, split, token) == (0, "validation", "hf_mine")  # what run_pretrain.py holds out
        return SimpleNamespace(documents_in_turn=lambda: iter(["a text"]))

    monkeypatch.setattr(length_generalization, "open_stream", opened)
    args = length_arguments(
        dataset_name="some/text", dataset_config_name="plain", text_column="body", text_unit="line",
        skip_bad_rows=True, token="hf_mine",
    )  # fmt: skip
    assert list(read_texts(args)) == ["a text"]


def test_without_text_the_held_out_part_of_the_embedded_corpus_is_joined(monkeypatch):
    def read(data_args, seed):
        assert (data_args.train_file, data_args.dataset_name, seed) == (None, None, 0)
        return SimpleNamespace(splits={"validation": Dataset.from_dict({"text": ["one", "two"]})})

    monkeypatch.setattr(length_generalization, "read_documents", read)
    args = length_arguments()
    assert list(read_texts(args)) == ["one", "two"] and args.join_documents
    assert not length_arguments(corpus_file=["a.txt"]).join_documents


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"--model_name_or_path": None}, "--model_name_or_path"),
        ({"--dataset_name": "some/text"}, "--corpus_file or --dataset_name"),
        ({"--max_tokens": "0"}, "--max_tokens must be at least 1, got 0"),
        ({"--batch_tokens": "-1"}, "--batch_tokens must be at least 1, got -1"),
        ({"--mlm_probability": "1"}, "--mlm_probability must lie between 0 and 1, got 1.0"),
        ({"--mlm_probability": "0"}, "--mlm_probability"),
        ({"--lengths": "2"}, "--lengths must be at least 3"),
        ({"--trained_length": "0"}, "--trained_length must be at least 2, got 0"),
        ({"--trained_length": "1"}, "--trained_length"),
        ({"--fixed_n": "n^a"}, "fixed_n 'n^a'. Allowed: dynamic, train, own"),
        (
            {"--attention_normalization": "relu"},
            "Unknown attention_normalization 'relu'. Allowed: softmax, softmax_plus, scalable_softmax",
        ),
        ({"--position_scaling": "dynamic"}, "Unknown position_scaling 'dynamic'. Allowed: none, linear, ntk, yarn."),
        ({"--context": "random"}, "Unknown context 'random'. Allowed: intact, shuffled."),
        ({"--position_scaling": "yarn"}, "Nothing to measure for"),
        ({"--lengths": "5000"}, "Lower the largest length to"),
        ({"--text_column": "text"}, "text"),
        ({"--corpus_file": "/nowhere/*.txt"}, "/nowhere"),
    ],
)
def test_wrong_arguments_raise(checkpoints, corpus, tmp_path, arguments, message):
    given = {
        "--model_name_or_path": checkpoints["softmax"], "--corpus_file": corpus[1], "--text_column": "body",
        "--lengths": "8", "--output_file": str(tmp_path / "folder" / "lengths.csv"),
    } | arguments  # fmt: skip
    with pytest.raises(ValueError) as error:
        main([part for name, value in given.items() if value is not None for part in (name, value)])
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())
