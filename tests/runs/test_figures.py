# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest

from modeling_gau.runs import figures
from modeling_gau.runs.figures import (
    label_lines,
    make_figure,
    plot_lengths,
    plot_loss_curve,
    show_size,
    spread,
    strokes,
)


PNG = b"\x89PNG\r\n\x1a\n"
LENGTHS = [{"length": length, "loss": loss} for length, loss in ((64, 4.0), (128, 3.99), (2048, 4.02))]


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every figure in turn."""
    axes, make = [], figures.make_figure

    def keeping(panels=1):
        figure, own = make(panels)
        axes.extend(own)
        return figure, own

    monkeypatch.setattr(figures, "make_figure", keeping)
    return axes


@pytest.mark.parametrize(("trained", "words"), [((512, 512), "trained at 512"), ((64, 512), "trained at 64 to 512")])
def test_lengths_are_drawn(tmp_path, drawn, trained, words):
    path = plot_lengths(LENGTHS, trained, tmp_path / "lengths.png")
    assert path == tmp_path / "lengths.png" and path.read_bytes().startswith(PNG)
    (axis,) = drawn
    low, high = axis.get_ylim()
    assert high - low == pytest.approx(0.5) and (low + high) / 2 == pytest.approx(4.005)
    assert [text.get_text() for text in axis.texts] == [words, "validation"] and axis.get_legend() is None


def test_losses_are_drawn(tmp_path, drawn):
    history = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.0}, {"step": 2, "eval_loss": 4.5}]
    assert plot_loss_curve(history, tmp_path / "loss.png").read_bytes().startswith(PNG)
    assert [text.get_text() for text in drawn[0].texts] == ["training", "validation"]


def test_what_cannot_be_drawn_is_not(tmp_path, monkeypatch):
    assert plot_lengths(LENGTHS[:1], (512, 512), tmp_path / "one.png") is None
    assert plot_loss_curve([{"step": 1, "epoch": 1}], tmp_path / "none.png") is None
    assert plot_loss_curve([{"step": 1, "loss": 5.0}], tmp_path / "point.png") is None
    monkeypatch.setattr(figures, "is_matplotlib_available", lambda: False)
    assert plot_lengths(LENGTHS, (512, 512), tmp_path / "without.png") is None
    assert list(Path(tmp_path).iterdir()) == []


def test_large_differences_keep_their_axis():
    _, (axis,) = make_figure()
    axis.plot([1, 2], [3.0, 5.0])
    before = axis.get_ylim()
    show_size(axis, 0.5)
    assert axis.get_ylim() == before


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([0.9, 0.1], [0.9, 0.1]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
        ([0.52, 0.5], [0.56, 0.46]),
        ([0.98, 1.0], [0.9, 1.0]),
        ([0.0, 0.02, 0.9], [0.0, 0.1, 0.9]),
    ],
)
def test_names_stand_apart_and_in_order(wanted, expected):
    assert list(spread(wanted, 0.1)) == pytest.approx(expected)


def test_many_lines_have_room_for_their_names():
    figure, (axis,) = make_figure()
    for number in range(40):
        axis.plot([1, 2], [1, 1 + 0.001 * number], label=f"line {number}")
    axis.plot([1, 2], [np.nan, np.nan], label="nothing")
    label_lines(axis)
    places = [text.xyann[1] for text in axis.texts]
    assert len(places) == 40 and places == sorted(places) and 0 <= places[0] and places[-1] <= 1
    assert np.diff(places).min() * (figure.get_figheight() - 1) == pytest.approx(0.17)


def test_one_color_with_strokes_for_n():
    found = strokes(["relu, n dynamic", "softmax", "relu, n fixed", "other, n fixed"])
    assert [one["color"] for one in found.values()] == ["C0", "C1", "C0", "C2"]
    assert [one["linestyle"] for one in found.values()] == ["--", "-", "-", "-"]
