# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Draws figures from the CSV files of `modeling_gau.lengths`, and from nothing else.

    python -m modeling_gau.lengths.figures lengths.csv --output_dir figures/

Writes the loss over the length (`<name>-loss.png`) and, for files with attention statistics, the normalizers on
logarithmic axes with the exponents of their growth (`<name>-normalizer.png`) and the entropy of the weights
(`<name>-entropy.png`). Needs the extra `plot`.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..attention_gau import ATTENTION_NORMALIZATIONS
from ..configuration_gau import GAUError
from ..runs.command_line import run_program
from ..runs.figures import LEAST_NATS, label_lines, make_figure, scale_to_lengths, show_size, strokes
from ..runs.options import ArgumentParser
from .results import NORMALIZERS, describe_setting, growth_exponents, layer_values, mean_of_known, read_results


Row = Mapping[str, str]
# Label of a line -> its points (length, value).
Lines = dict[str, list[tuple[int, float]]]

LINE = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}
# Below the axis: names with exponents are too long to stand beside it.
LEGEND = {"loc": "upper left", "bbox_to_anchor": (0, -0.14), "edgecolor": "none", "fontsize": 8}
NORMALIZER_TITLES = {"log_sum_exp": "softmax: Σ exp(a)", "sum_squared_relu": "squared ReLU: Σ relu(a)²"}


def checkpoint_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Names of the checkpoints without the folders they all share; empty if there is only one."""
    names = list(dict.fromkeys(row["checkpoint"] for row in rows))
    if len(names) == 1:
        return {names[0]: ""}
    parts = [Path(name).parts for name in names]
    shared = 0
    while all(len(own) > shared + 1 for own in parts) and len({own[shared] for own in parts}) == 1:
        shared += 1
    return {name: "/".join(own[shared:]) for name, own in zip(names, parts, strict=True)}


def lines(rows: Sequence[Row], metric: str, labels: Mapping[str, str] | None = None) -> Lines:
    """One line for each checkpoint and setting, averaged over the layers that have a value.

    `labels` of the checkpoints default to [`checkpoint_labels`].
    """
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
        ValueError: there are no results, or matplotlib is missing.
    """
    if not rows:
        raise GAUError(f"{name} holds no results to draw.")
    require_plot_extra("matplotlib")
    folder.mkdir(parents=True, exist_ok=True)
    trained = sorted({int(row["trained_length"]) for row in rows})
    labels = checkpoint_labels(rows)
    paths = [plot_lines(lines(rows, "loss", labels), trained, folder / f"{name}-loss.png", "masked-token loss (nats)")]
    intact = [row for row in rows if row["layer"] and row["context"] == "intact"]
    if any(row["metric"] in NORMALIZERS for row in intact):
        paths.append(plot_normalizers(intact, labels, trained, folder / f"{name}-normalizer.png"))
    if entropy := lines(intact, "entropy", labels):
        label = "entropy of the attention (nats), mean of the layers"
        paths.append(plot_lines(entropy, trained, folder / f"{name}-entropy.png", label))
    return paths


def plot_lines(found: Lines, trained: Sequence[int], path: Path, label: str) -> Path:
    """Draws lines over the length to a PNG file."""
    figure, (axis,) = make_figure(1)
    _draw(axis, found, trained)
    axis.set_ylabel(label)
    show_size(axis, LEAST_NATS)
    label_lines(axis)
    figure.savefig(path)
    return path


def plot_normalizers(rows: Sequence[Row], labels: Mapping[str, str], trained: Sequence[int], path: Path) -> Path:
    """Draws the normalizer of each family of attentions on logarithmic axes: geometric means over the layers, and in
    the legend the exponents of the growth up to the training length and beyond it."""
    families = {"log_sum_exp": "softmax", "sum_squared_relu": "squared_relu"}
    found = {}
    for metric, family in families.items():
        own = [row for row in rows if ATTENTION_NORMALIZATIONS[row["attention_normalization"]].family == family]
        if own:
            found[metric] = normalizer_lines(own, metric, labels)
    figure, axes = make_figure(len(found))
    for axis, (metric, own) in zip(axes, found.items(), strict=True):
        _draw(axis, own, trained)
        axis.set_yscale("log")
        axis.set_title(NORMALIZER_TITLES[metric], fontsize=9, pad=16)
        axis.set_ylabel("geometric mean of queries and layers" if NORMALIZERS[metric] else "geometric mean of layers")
        axis.legend(**LEGEND)
    figure.savefig(path)
    return path


def normalizer_lines(rows: Sequence[Row], metric: str, labels: Mapping[str, str]) -> Lines:
    """Label, with the exponents of the growth -> (length, geometric mean over the layers)."""
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


def require_plot_extra(*packages: str) -> None:
    """Raises ValueError if one of the packages is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise GAUError(f"{' and '.join(missing)} not installed: pip install 'modeling-gau[plot]'.")


def _draw(axis, found: Lines, trained: Sequence[int]) -> None:
    styles = strokes(found)
    for label, points in found.items():
        axis.plot(*zip(*points, strict=True), label=label, **LINE | styles[label])
    scale_to_lengths(axis, [length for points in found.values() for length, _ in points], trained)


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Returns the files it wrote."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="CSV files written by modeling_gau.lengths")
    parser.add_argument("--output_dir", type=Path, help="folder for the figures; by default that of each file")
    args = parser.parse_args(argv)
    written = []
    for path in args.results:
        rows = read_results(path)
        if not rows:
            raise GAUError(f"{path} holds no results to draw.")
        written += plot_length_results(rows, args.output_dir or path.parent, path.stem)
    for path in written:
        print(f"Wrote {path}")
    return written


if __name__ == "__main__":
    run_program(main)
