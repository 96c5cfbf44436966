# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Figures of length results, drawn from the CSV files alone."""

import math

import pytest

from modeling_gau.lengths import figures as length_figures
from modeling_gau.lengths.attention_statistics import ATTENTION_STATISTICS
from modeling_gau.lengths.figures import checkpoint_labels, lines, main, plot_length_results
from modeling_gau.lengths.results import read_results, result_rows
from modeling_gau.lengths.settings import NOT_USED, Cell
from modeling_gau.runs.tables import write_csv


PNG = b"\x89PNG\r\n\x1a\n"
LENGTHS = (16, 64, 512)
TRAINED = 64


def kinked(length, before, after):
    """length^before up to the training length, from there on a growth with `after`."""
    return length**before if length <= TRAINED else TRAINED**before * (length / TRAINED) ** after


def results(checkpoint, normalization="squared_relu", n="dynamic", context="intact", lengths=LENGTHS, layers=2):
    """Rows of a checkpoint that does not exist: the sum of squared ReLUs grows as n^2, then n^0.5, and is half of that
    in the second layer; that of exps as n^1.5, then n^1. A last layer has no weights."""
    facts = {"checkpoint": checkpoint, "weights": "0", "corpus": "0", "trained_length": TRAINED, "fixed_n": ""}
    rows = []
    for length in lengths:
        of_layers = {
            "sum_squared_relu": kinked(length, 2, 0.5),
            "log_sum_exp": math.log(kinked(length, 1.5, 1)),
            "entropy": math.log(length),
        }
        measurements = [
            (layer, name, of_layers.get(name, 1.0) / (layer + 1 if name != "log_sum_exp" else 1))
            for layer in range(layers)
            for name in ATTENTION_STATISTICS
        ]
        measurements += [(layers, name, math.nan) for name in ATTENTION_STATISTICS]
        measurements += [(None, "loss", 4.0 + length / 1000), (None, "accuracy", 0.3), (None, "masked_tokens", 50)]
        rows += result_rows(facts, Cell(normalization, n, "none", context, length), measurements)
    return rows


def write_rows(path, rows):
    write_csv(path, rows)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every figure in turn."""
    figures, make = [], length_figures.make_figure

    def keeping(panels=1):
        figure, axes = make(panels)
        figures.append(axes)
        return figure, axes

    monkeypatch.setattr(length_figures, "make_figure", keeping)
    return figures


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def labels_at_lines(axis):
    return [text.get_text() for text in axis.texts]


def test_figures_need_only_the_file(tmp_path, capsys, drawn):
    rows = [
        *results("gone/a/checkpoint-10"),
        *results("gone/b/checkpoint-10"),
        *results("gone/b/checkpoint-10", context="shuffled"),
        *results("gone/soft", "softmax", NOT_USED),
    ]
    path = write_rows(tmp_path / "lengths.csv", rows)
    written = main([str(path)])
    assert written == [tmp_path / f"lengths-{name}.png" for name in ("loss", "normalizer", "entropy")]
    assert all(file.read_bytes().startswith(PNG) and file.stat().st_size > 5000 for file in written)
    assert capsys.readouterr().out.splitlines() == [f"Wrote {file}" for file in written]
    assert {file.name for file in tmp_path.iterdir()} == {"lengths.csv", *(file.name for file in written)}

    (loss,), (softmax, squared_relu), (entropy,) = drawn
    labels = ["a/checkpoint-10: squared_relu, n dynamic", "b/checkpoint-10: squared_relu, n dynamic"]
    shuffled, soft = "b/checkpoint-10: squared_relu, n dynamic, shuffled", "soft: softmax"
    assert set(labels_at_lines(loss)) == {*labels, shuffled, soft, "trained at 64"} and len(loss.texts) == 5
    assert set(labels_at_lines(entropy)) == {*labels, soft, "trained at 64"}
    assert loss.get_legend() is entropy.get_legend() is None
    # Normalizers with the exponents of their growth, each family with its own.
    assert legend(softmax) == ["soft: softmax, n^1.50, then n^1.00"]
    assert legend(squared_relu) == [f"{label}, n^2.00, then n^0.50" for label in labels]
    line = squared_relu.get_lines()[0]
    assert list(line.get_xdata()) == list(LENGTHS)
    assert list(line.get_ydata()) == pytest.approx(  # geometric mean of the layers
        [kinked(n, 2, 0.5) / math.sqrt(2) for n in LENGTHS], rel=1e-5
    )
    assert list(softmax.get_lines()[0].get_ydata()) == pytest.approx([kinked(n, 1.5, 1) for n in LENGTHS], rel=1e-4)
    assert squared_relu.get_yscale() == softmax.get_yscale() == "log" and loss.get_yscale() == "linear"
    assert list(loss.get_lines()[-1].get_xdata()) == [64, 64]
    assert [tick.get_text() for tick in loss.get_xticklabels()] == ["16", "64", "512"]


def test_without_statistics_of_intact_contexts_only_the_loss_is_drawn(tmp_path):
    files = [
        write_rows(tmp_path / "whole.csv", [row for row in results("a") if row["layer"] == ""]),
        write_rows(tmp_path / "shuffled.csv", results("a", context="shuffled")),
    ]
    written = main([*map(str, files), "--output_dir", str(tmp_path / "new" / "folder")])
    assert written == [tmp_path / "new" / "folder" / f"{name}-loss.png" for name in ("whole", "shuffled")]
    assert written[0].read_bytes().startswith(PNG) and len(list(written[0].parent.iterdir())) == 2


def test_one_length_has_no_exponent(tmp_path, drawn):
    assert len(plot_length_results(results("a", lengths=(16,)), tmp_path, "x")) == 3
    assert legend(drawn[1][0]) == ["squared_relu, n dynamic"]


def test_layers_without_a_positive_score_are_left_out(tmp_path, drawn):
    rows = results("a")
    for row in rows:
        if row["metric"] == "sum_squared_relu" and (row["layer"] == "0" or row["length"] == "512"):
            row["value"] = "0"
    assert len(plot_length_results(rows, tmp_path, "x")) == 3
    (axis,) = drawn[1]  # no panel for the softmax
    assert legend(axis) == ["squared_relu, n dynamic, n^2.00"]
    assert list(axis.get_lines()[0].get_xdata()) == [16, 64]
    assert list(axis.get_lines()[0].get_ydata()) == pytest.approx([n**2 / 2 for n in (16, 64)], rel=1e-5)


def test_exponents_refer_to_the_training_length_of_each_checkpoint(tmp_path, drawn):
    rows = [*results("a"), *({**row, "trained_length": "512"} for row in results("b"))]
    plot_length_results(rows, tmp_path, "x")
    (axis,) = drawn[1]
    first, second = legend(axis)
    assert first == "a: squared_relu, n dynamic, n^2.00, then n^0.50"
    assert second.startswith("b: squared_relu, n dynamic, n^1.") and "then" not in second
    assert [list(line.get_xdata()) for line in axis.get_lines()[2:]] == [[64, 64], [512, 512]]
    assert [text.get_text() for text in axis.texts] == ["trained at 64", "trained at 512"]


def test_a_truncated_line_is_ignored(tmp_path):
    path = write_rows(tmp_path / "lengths.csv", results("a"))
    path.write_bytes(path.read_bytes()[:-3])
    assert read_results(path) == results("a")[:-1]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["out/a"], [""]),
        (["out/a", "out/b"], ["a", "b"]),
        (["/x/out/a/last", "/x/out/b/last", "/x/out/b/first"], ["a/last", "b/last", "b/first"]),
        (["out/a", "out/a/checkpoint-5"], ["a", "a/checkpoint-5"]),
        (["org/model", "model"], ["org/model", "model"]),
        (["out/a", "out/a-long"], ["a", "a-long"]),
    ],
)
def test_labels_tell_checkpoints_apart(names, labels):
    rows = [row for name in names for row in results(name)]
    assert checkpoint_labels(rows) == dict(zip(names, labels, strict=True))
    found = lines(rows, "loss")
    assert len(found) == len(names)
    for points in found.values():
        assert points == [(n, pytest.approx(4 + n / 1000, rel=1e-5)) for n in LENGTHS]


def test_lines_are_in_order_of_the_lengths():
    rows = [*results("a", lengths=(512, 16)), *results("a", lengths=(64,))]
    assert [n for n, _ in lines(rows, "loss")["squared_relu, n dynamic"]] == [16, 64, 512]
    # The second layer has half the entropy of the first, and the third has none.
    mean = pytest.approx(0.75 * math.log(16), rel=1e-5)
    assert lines(rows, "entropy", {"a": "name"})["name: squared_relu, n dynamic"][0] == (16, mean)
    ((length, value),) = lines(results("a", lengths=(16,), layers=0), "entropy")["squared_relu, n dynamic"]
    assert length == 16 and math.isnan(value)


def test_files_that_cannot_be_drawn_raise(tmp_path, monkeypatch):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv is not a file of length results"):
        main([str(tmp_path / "other.csv")])
    with pytest.raises(ValueError, match="empty holds no results to draw"):
        plot_length_results([], tmp_path, "empty")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"matplotlib not installed: pip install 'modeling-gau\[plot\]'"):
        plot_length_results(results("a"), tmp_path / "figures", "x")
    assert not list(tmp_path.glob("**/*.png")) and not (tmp_path / "figures").exists()
