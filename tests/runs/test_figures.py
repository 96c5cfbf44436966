# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from modeling_gau.runs import figures
from modeling_gau.runs.figures import plot_lengths, plot_loss_curve


PNG = b"\x89PNG\r\n\x1a\n"
LENGTHS = [{"length": length, "loss": loss} for length, loss in ((64, 4.0), (128, 3.9), (2048, 4.1))]


@pytest.mark.parametrize("trained", [(512, 512), (64, 512)])
def test_lengths_are_drawn(tmp_path, trained):
    path = plot_lengths(LENGTHS, trained, tmp_path / "lengths.png")
    assert path == tmp_path / "lengths.png" and path.read_bytes().startswith(PNG)


def test_losses_are_drawn(tmp_path):
    history = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.0}, {"step": 2, "eval_loss": 4.5}]
    assert plot_loss_curve(history, tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_what_cannot_be_drawn_is_not(tmp_path, monkeypatch):
    assert plot_lengths(LENGTHS[:1], (512, 512), tmp_path / "one.png") is None
    assert plot_loss_curve([{"step": 1, "epoch": 1}], tmp_path / "none.png") is None
    monkeypatch.setattr(figures, "is_matplotlib_available", lambda: False)
    assert plot_lengths(LENGTHS, (512, 512), tmp_path / "without.png") is None
    assert list(Path(tmp_path).iterdir()) == []
