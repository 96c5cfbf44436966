# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Figures of how encoders do at other lengths than their own, from the files of `length_generalization` alone.

    python -m modeling_gau.lengths.figures lengths.csv --output_dir figures/

Writes the loss over the length (`<name>-loss.png`) and, of files with statistics of the attention, the normalizers
over the length on logarithmic axes with the exponent of their growth (`<name>-normalizer.png`) and the entropy of the
weights (`<name>-entropy.png`). Needs matplotlib (the extra `plot`).
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers.utils import is_matplotlib_available

from ..attention_gau import ATTENTION_NORMALIZATIONS
from .results import NORMALIZERS, describe_setting, growth_exponents, layer_values, mean_of_known, read_results


Row = Mapping[str, str]
# Label of a line -> its points, length and value.
Lines = dict[str, list[tuple[int, float]]]


def checkpoint_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Names of the checkpoints without the folders that all of them share; empty where there is only one."""
    names = list(dict.fromkeys(row["checkpoint"] for row in rows))
    if len(names) == 1:
        return {names[0]: ""}
    parts = [Path(name).parts for name in names]
    shared = 0
    while all(len(own) > shared + 1 for own in parts) and len({own[shared] for own in parts}) == 1:
        shared += 1
    return {name: "/".join(own[shared:]) for name, own in zip(names, parts, strict=True)}


def lines(rows: Sequence[Row], metric: str, labels: Mapping[str, str] | None = None) -> Lines:
    """The lines of a metric: one for each checkpoint and setting, whose points are the lengths. What is of layers is
    averaged over those that have a value. `labels` of the checkpoints are `checkpoint_labels` by default."""
    labels, found = labels or checkpoint_labels(rows), {}
    for row in rows:
        if row["metric"] == metric:
            label = line_label(labels[row["checkpoint"]], describe_setting(row))
            found.setdefault(label, {}).setdefault(int(row["length"]), []).append(float(row["value"]))
    return {label: sorted((n, mean_of_known(own)) for n, own in points.items()) for label, points in found.items()}


def line_label(checkpoint: str, setting: str) -> str:
    return f"{checkpoint}: {setting}" if checkpoint else setting


def plot_length_results(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Draws all figures of some results, and returns the paths of the PNG files.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: there are no results.
    """
    if not rows:
        raise ValueError(f"There are no results of {name} to draw.")
    if not is_matplotlib_available():
        raise ImportError("Figures need matplotlib: pip install 'modeling-gau[plot]'.")
    folder.mkdir(parents=True, exist_ok=True)
    trained = sorted({int(row["trained_length"]) for row in rows})
    labels = checkpoint_labels(rows)
    paths = [plot_lines(lines(rows, "loss", labels), trained, folder / f"{name}-loss.png", "masked-token loss (nats)")]
    intact = [row for row in rows if row["layer"] and row["context"] == "intact"]
    if not intact:
        return paths
    paths.append(plot_normalizers(intact, labels, trained, folder / f"{name}-normalizer.png"))
    entropy = lines(intact, "entropy", labels)
    label = "entropy of the attention (nats), mean of the layers"
    return [*paths, plot_lines(entropy, trained, folder / f"{name}-entropy.png", label)]


def plot_lines(found: Lines, trained: Sequence[int], path: Path, label: str) -> Path:
    """Draws lines over the length to a PNG file."""
    figure, axes = _figure(1)
    _draw(axes[0], found, trained)
    axes[0].set_ylabel(label)
    _legend(axes[0])
    figure.savefig(path)
    return path


def plot_normalizers(rows: Sequence[Row], labels: Mapping[str, str], trained: Sequence[int], path: Path) -> Path:
    """Draws the normalizer that each family of attentions would need, on logarithmic axes: geometric means of the
    layers, and in the legend the exponents of the growth up to the training length and from there on."""
    figure, axes = _figure(2)
    families = {"log_sum_exp": "softmax", "sum_squared_relu": "squared_relu"}
    titles = {"log_sum_exp": "softmax: Σ exp(a)", "sum_squared_relu": "squared ReLU: Σ relu(a)²"}
    for axis, (metric, family) in zip(axes, families.items(), strict=True):
        own = [row for row in rows if ATTENTION_NORMALIZATIONS[row["attention_normalization"]].family == family]
        _draw(axis, normalizer_lines(own, metric, labels), trained)
        axis.set_yscale("log")
        axis.set_title(titles[metric], fontsize=9)
        axis.set_ylabel("geometric mean of queries and layers" if NORMALIZERS[metric] else "geometric mean of layers")
        if own:
            _legend(axis)
    figure.savefig(path)
    return path


def normalizer_lines(rows: Sequence[Row], metric: str, labels: Mapping[str, str]) -> Lines:
    """Label with the exponents of the growth -> length and geometric mean of the layers."""
    values, found = layer_values(rows), {}
    trained = {(row["checkpoint"], describe_setting(row)): int(row["trained_length"]) for row in rows}
    for (checkpoint, setting), length in trained.items():
        own = {key[3:]: value for key, value in values.items() if key[:3] == (checkpoint, setting, metric)}
        logs = {
            key: value if NORMALIZERS[metric] else math.log(value)
            for key, value in own.items()
            if NORMALIZERS[metric] or value > 0
        }
        powers = [f"n^{power:.2f}" for power in growth_exponents(own, metric, length) if not math.isnan(power)]
        label = ", ".join(filter(None, (line_label(labels[checkpoint], setting), ", then ".join(powers))))
        means = {n: mean_of_known([log for (other, _), log in logs.items() if other == n]) for n, _ in sorted(logs)}
        found[label] = [(n, math.exp(mean)) for n, mean in means.items()]
    return found


def _figure(panels: int) -> tuple:
    # Not pyplot: it keeps figures in a global state, and would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 if panels == 1 else 11, 4.2), dpi=150, layout="constrained")
    return figure, [figure.add_subplot(1, panels, number + 1) for number in range(panels)]


def _draw(axis, found: Lines, trained: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    for label, points in found.items():
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.4, label=label)
    for number, length in enumerate(trained):
        axis.axvline(
            length, color="0.5", linestyle="--", linewidth=1, label="length of training" if not number else None
        )
    ticks = sorted({length for points in found.values() for length, _ in points})
    axis.set_xticks(ticks, [str(length) for length in ticks], fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel("length of a row (tokens)")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(axis) -> None:
    axis.legend(facecolor="white", framealpha=0.9, edgecolor="none", fontsize=7)


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Runs the command with `argv` (the command line by default) and returns what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="CSV files of modeling_gau.lengths.measuring")
    parser.add_argument("--output_dir", type=Path, help="folder of the figures; that of each file by default")
    args = parser.parse_args(argv)
    written = []
    for path in args.results:
        written += plot_length_results(read_results(path), args.output_dir or path.parent, path.stem)
    for path in written:
        print(f"Wrote {path}")
    return written


if __name__ == "__main__":
    main()
