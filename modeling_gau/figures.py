# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The loss curve of a run, for its model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers.utils import is_matplotlib_available


def plot_loss_curve(history: Sequence[Mapping[str, float]], path: str | Path) -> Path | None:
    """Draws training and evaluation loss over the steps to a PNG file.

    Args:
        history: `log_history` of the Trainer.
        path: of the file to write.

    Returns:
        The path; None where there is no loss in the history, or matplotlib (the extra `plot`) is not installed.
    """
    curves = {
        "training": [(entry["step"], entry["loss"]) for entry in history if "loss" in entry],
        "validation": [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry],
    }
    if not any(curves.values()) or not is_matplotlib_available():
        return None
    # Not pyplot: it keeps figures in a global state, and would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for (name, points), style in zip(
        curves.items(), ({"linewidth": 1}, {"marker": "o", "markersize": 4}), strict=True
    ):
        if points:
            axes.plot(*zip(*points, strict=True), label=name, **style)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("masked-token loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return Path(path)
