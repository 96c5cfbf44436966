# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The pictures of a model card: the loss over the steps, and the loss over the length."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers.utils import is_matplotlib_available


def plot_loss_curve(history: Sequence[Mapping[str, float]], path: str | Path) -> Path | None:
    """Draws training and evaluation loss over the steps to a PNG file.

    Args:
        history: `log_history` of the Trainer.
        path: of the file to write.

    Returns:
        The path; None if the history has no loss or matplotlib (the extra `plot`) is missing.
    """
    curves = {
        "training": [(entry["step"], entry.get("masked_loss", entry["loss"])) for entry in history if "loss" in entry],
        "validation": [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry],
    }
    if not any(curves.values()) or not is_matplotlib_available():
        return None
    figure, axes = _figure()
    for (name, points), style in zip(
        curves.items(), ({"linewidth": 1}, {"marker": "o", "markersize": 4}), strict=True
    ):
        if points:
            axes.plot(*zip(*points, strict=True), label=name, **style)
    axes.set_xlabel("optimizer step")
    return _finish(figure, axes, path)


def plot_lengths(results: Sequence[Mapping[str, float]], trained: tuple[int, int], path: str | Path) -> Path | None:
    """Draws the evaluation loss over the length of the rows to a PNG file.

    Args:
        results: rows with `length`, in tokens, and `loss`.
        trained: the shortest and the longest row of training, in tokens.
        path: of the file to write.

    Returns:
        The path; None with fewer than two lengths or without matplotlib (the extra `plot`).
    """
    if len(results) < 2 or not is_matplotlib_available():
        return None
    figure, axes = _figure()
    lengths = [row["length"] for row in results]
    axes.set_xscale("log", base=2)
    axes.plot(lengths, [row["loss"] for row in results], marker="o", markersize=4, label="validation")
    shortest, longest = trained
    if shortest == longest:
        axes.axvline(longest, color="0.5", linestyle="--", linewidth=1, label=f"length of training ({longest})")
    else:
        axes.axvspan(shortest, longest, color="0.85", label=f"lengths of training ({shortest} to {longest})")
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.set_xlabel("length of a row (tokens)")
    return _finish(figure, axes, path)


def _figure() -> tuple:
    # pyplot would keep the figure in a global state and look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    return figure, figure.add_subplot()


def _finish(figure, axes, path: str | Path) -> Path:
    axes.set_ylabel("masked-token loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend(facecolor="white", framealpha=0.9, edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return Path(path)
