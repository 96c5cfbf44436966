# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""How figures are drawn, and the pictures of a model card: the loss over the steps, and the loss over the length."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers.utils import is_matplotlib_available


# Axes of losses and entropies span at least this many nats, so that what looks large is large.
LEAST_NATS = 0.5
# Colors tell models apart, strokes the n that they are used with.
_STROKES = ("-", "--", ":", "-.")
_SOLID = ("", "fixed", "train")
_HEIGHT = 4.2


def plot_loss_curve(history: Sequence[Mapping[str, float]], path: str | Path) -> Path | None:
    """Draws training and evaluation loss over the steps to a PNG file.

    Args:
        history: `log_history` of the Trainer.
        path: of the file to write.

    Returns:
        The path; None if the history has fewer than two losses or matplotlib (the extra `plot`) is missing.
    """
    curves = {
        "training": [(entry["step"], entry.get("masked_loss", entry["loss"])) for entry in history if "loss" in entry],
        "validation": [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry],
    }
    if max(map(len, curves.values())) < 2 or not is_matplotlib_available():
        return None
    figure, (axis,) = make_figure()
    for name, points in curves.items():
        if points:
            axis.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) < 20 else "", markersize=3.5)
    axis.set_xlabel("optimizer step")
    return _finish(figure, axis, path)


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
    figure, (axis,) = make_figure()
    lengths = [row["length"] for row in results]
    axis.plot(lengths, [row["loss"] for row in results], marker="o", markersize=4, label="validation")
    shortest, longest = trained
    scale_to_lengths(axis, lengths, trained if shortest == longest else ())
    if shortest < longest:
        axis.axvspan(shortest, longest, color="0.93", zorder=0)
        _write_above(axis, (shortest * longest) ** 0.5, f"trained at {shortest} to {longest}")
    return _finish(figure, axis, path)


def _finish(figure, axis, path: str | Path) -> Path:
    axis.set_ylabel("masked-token loss (nats)")
    show_size(axis, LEAST_NATS)
    label_lines(axis)
    figure.savefig(path)
    return Path(path)


# For every figure


def make_figure(panels: int = 1) -> tuple:
    """(figure, list of its axes side by side)"""
    # pyplot would keep the figure in a global state and look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 if panels == 1 else 11, _HEIGHT), dpi=150, layout="constrained")
    axes = [figure.add_subplot(1, panels, number + 1) for number in range(panels)]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def show_size(axis, least: float) -> None:
    """Widens the vertical axis to a span of at least `least`: small differences must not look large."""
    low, high = axis.get_ylim()
    missing = max(0.0, least - (high - low)) / 2
    axis.set_ylim(low - missing, high + missing)


def label_lines(axis) -> None:
    """Writes the name of each line beside its end, in its color, without one name on another.

    The scale and the limits of the axis must be set. A figure of many lines becomes higher.
    """
    lines = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    lines = [line for line in lines if np.isfinite(line.get_ydata()).any()]
    figure = axis.get_figure()
    figure.set_figheight(max(figure.get_figheight(), 0.17 * len(lines) + 1.2))
    scale, limits = axis.yaxis.get_transform().transform, axis.get_ylim()
    axis.set_ylim(limits)
    low, high = scale(np.array(limits))
    ends = [line.get_xydata()[np.isfinite(line.get_ydata())][-1] for line in lines]
    wanted = np.array([(scale(end[1:])[0] - low) / (high - low) for end in ends])
    gap = 0.17 / (figure.get_figheight() - 1)
    for line, end, place in zip(lines, ends, spread(wanted, gap), strict=True):
        axis.annotate(
            line.get_label(),
            xy=end,
            xytext=(1.03, place),
            textcoords="axes fraction",
            color=line.get_color(),
            fontsize=8,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": line.get_color(), "lw": 0.6, "alpha": 0.6},
            annotation_clip=False,
        )


def spread(wanted: Sequence[float], gap: float) -> np.ndarray:
    """Places near the wanted ones, in the same order and at least `gap` apart, as far as possible within 0 and 1."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    # Isotonic regression: with the steps taken off, the places only have to ascend; neighbours that do not take their
    # mean.
    groups: list[list[float]] = []
    for value in np.asarray(wanted, float)[order] - steps:
        groups.append([value])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    ascending = np.array([np.mean(group) for group in groups for _ in group])
    places = np.empty(len(order))
    places[order] = np.clip(ascending, 0, max(0.0, 1 - steps[-1])) + steps if len(order) else ascending
    return places


def scale_to_lengths(axis, lengths: Iterable[int], trained: Iterable[int] = ()) -> None:
    """A logarithmic axis with a tick at each length, on which each length of training is marked."""
    ticks = sorted(set(lengths))
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(length) for length in ticks], fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel("length of a row (tokens)")
    for length in sorted(set(trained)):
        axis.axvline(length, color="0.5", linestyle="--", linewidth=1)
        _write_above(axis, length, f"trained at {length}")


def _write_above(axis, x: float, words: str) -> None:
    place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axis.annotate(words, (x, 1), xycoords=("data", "axes fraction"), color="0.4", fontsize=8, **place)


def strokes(labels: Iterable[str]) -> dict[str, dict[str, str]]:
    """Label of a line -> its color and stroke: one color for all that differ in what follows ', n ' alone."""
    parts = {label: (label.partition(", n ")[0], label.partition(", n ")[2]) for label in labels}
    names = list(dict.fromkeys(name for name, _ in parts.values()))
    others = sorted({n for _, n in parts.values()} - set(_SOLID))
    found = {}
    for label, (name, n) in parts.items():
        number = 0 if n in _SOLID else 1 + others.index(n) % (len(_STROKES) - 1)
        found[label] = {"color": f"C{names.index(name) % 10}", "linestyle": _STROKES[number]}
    return found
