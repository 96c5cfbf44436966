# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Tables and figures of a length study (modeling_gau/lengths/study.py), from small CSV files alone.

    python -m modeling_gau.lengths.study_report --study outputs/length-study --results benchmarks/results/NAME
    python -m modeling_gau.lengths.study_report --results benchmarks/results/NAME

With --study, it first collects the results of finished runs into the folder --results. Then it prints all tables,
writes them there as Markdown, and draws the figures, from the files of that folder alone. Differences are paired by
seed, which sets the initial weights and the order of the text; all runs predict the same tokens. Intervals are 95 %
intervals of Student's t over the seeds and do not cover the choice of the text. Needs the extra `plot`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ..configuration_gau import GAUError
from ..runs.command_line import run_program
from ..runs.figures import LEAST_NATS, label_lines, make_figure, scale_to_lengths, show_size, strokes
from ..runs.options import ArgumentParser
from ..runs.tables import markdown
from .figures import LEGEND, LINE, NORMALIZER_TITLES, require_plot_extra
from .results import NORMALIZERS, power_law_exponent
from .settings import NOT_USED


_HEAD = """# Tables of the length study

Made by modeling_gau/lengths/study_report.py from the CSV files of this folder; docs/length_generalization.md explains
them. Percent and nats, mean and standard deviation over seeds; differences are paired by seed, with 95 % intervals.
"""
SETTING = ["training", "attention_normalization", "n", "position_scaling", "context"]
KEPT_STATISTICS = [*NORMALIZERS, "weight_sum", "zero_share", "entropy", "keys_90", "distance"]
# The arms compared: label -> training, normalization, n.
ARMS = {
    "squared_relu, n fixed": ("squared_relu", "squared_relu", "train"),
    "squared_relu, n dynamic": ("squared_relu", "squared_relu", "dynamic"),
    "squared_relu, n dynamic, mixed lengths": ("squared_relu_mixed", "squared_relu", "dynamic"),
    "normalized_squared_relu": ("normalized_squared_relu", "normalized_squared_relu", NOT_USED),
    "softmax": ("softmax", "softmax", NOT_USED),
    "softmax_plus": ("softmax", "softmax_plus", "dynamic"),
}
# Where log n is used, in training and at inference: label -> training, normalization, n.
SOFTMAX_ARMS = {
    "softmax at 512, none": ("softmax", "softmax", NOT_USED),
    "softmax at 512, log n at inference": ("softmax", "softmax_plus", "dynamic"),
    "softmax mixed, none": ("softmax_mixed", "softmax", NOT_USED),
    "softmax mixed, log n at inference": ("softmax_mixed", "softmax_plus", "dynamic"),
    "softmax_plus mixed, log n in training too": ("softmax_plus_mixed", "softmax_plus", "dynamic"),
}
SOFTMAX_PAIRS = (
    ("softmax at 512, log n at inference", "softmax at 512, none"),
    ("softmax mixed, log n at inference", "softmax mixed, none"),
    ("softmax_plus mixed, log n in training too", "softmax mixed, none"),
    ("softmax_plus mixed, log n in training too", "softmax mixed, log n at inference"),
    ("softmax mixed, none", "softmax at 512, none"),
)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="output_dir of modeling_gau.lengths.study")
    parser.add_argument(
        "--results", type=Path, required=True, help="folder for the collected files, tables and figures"
    )
    args = parser.parse_args()
    require_plot_extra("matplotlib", "scipy")
    if args.study:
        collect(args.study, args.results)
    lengths = pd.read_csv(args.results / "lengths.csv")
    attention = pd.read_csv(args.results / "attention.csv")
    tuning = pd.read_csv(args.results / "tuning.csv")
    path = args.results / "fine_tuning.csv"
    fine_tuning = pd.read_csv(path) if path.exists() else None
    found = [(title, table) for title, table in tables(lengths, attention, tuning, fine_tuning) if len(table) > 1]
    text = "\n".join(f"### {title}\n\n{markdown(table, left=1)}\n" for title, table in found)
    (args.results / "tables.md").write_text(f"{_HEAD}\n{text}", encoding="utf-8")
    print(text)
    print(f"Wrote {args.results / 'tables.md'}")
    for path in draw(lengths, attention, args.results):
        print(f"Wrote {path}")


# Collecting


def collect(study: Path, results: Path) -> None:
    """Writes what the tables and figures need: values of whole models, and of layers with unscaled positions and n
    fixed or dynamic.

    Raises:
        ValueError: the evaluations used different tokens or precisions.
    """
    rows = pd.read_csv(study / "lengths.csv", keep_default_na=False, dtype={"layer": str, "n": str, "fixed_n": str})
    if rows.corpus.nunique() > 1:
        asked = rows.groupby("corpus").evaluation.unique().map(", ".join)
        raise GAUError(
            f"The evaluations cannot be compared because their text or precision differs: {' | '.join(asked)}."
        )
    results.mkdir(parents=True, exist_ok=True)
    rows = rows.drop_duplicates(["training", "seed", *SETTING[1:], "length", "layer", "metric"])
    whole = rows[(rows.layer == "") & rows.metric.isin(["loss", "accuracy", "masked_tokens"])]
    whole = whole[[*SETTING, "fixed_n", "trained_length", "seed", "length", "metric", "value"]]
    whole.to_csv(results / "lengths.csv", index=False, lineterminator="\n")
    layers = rows[(rows.layer != "") & rows.metric.isin(KEPT_STATISTICS) & (rows.context == "intact")]
    layers = layers[(layers.position_scaling == "none") & layers.n.isin(["train", "dynamic", NOT_USED])]
    layers = layers[["training", "attention_normalization", "n", "seed", "length", "layer", "metric", "value"]]
    layers = layers.assign(value=layers.value.astype(float).map("{:.4g}".format))
    layers.to_csv(results / "attention.csv", index=False, lineterminator="\n")
    for name in ("tuning.csv", "fine_tuning.csv"):
        if (study / name).exists():
            (results / name).write_text((study / name).read_text(encoding="utf-8"), encoding="utf-8")


# Numbers


def values(lengths: pd.DataFrame, arm: Sequence[str], metric: str, scaling="none", context="intact") -> pd.DataFrame:
    """Seeds x lengths of an arm (training, normalization, n)."""
    wanted = lengths[lengths.metric == metric]
    for name, value in zip(SETTING, (*arm, scaling, context), strict=True):
        wanted = wanted[wanted[name] == value]
    return wanted.pivot(index="seed", columns="length", values="value")


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of differences and half the width of its 95 % interval, which is NaN for one difference."""
    from scipy import stats

    differences = np.asarray(differences, float)
    count = len(differences)
    if count < 2:
        return float(differences.mean()), float("nan")
    return float(differences.mean()), float(stats.t.ppf(0.975, count - 1) * stats.sem(differences))


def mean_cell(column: pd.Series, scale: int = 100, digits: int = 1) -> str:
    spread = f" ± {scale * column.std():.{digits}f}" if len(column) > 1 else ""
    return f"{scale * column.mean():.{digits}f}{spread}"


def difference_cell(differences: pd.Series, scale: int = 100, digits: int = 1) -> str:
    """Mean and 95 % interval over the complete pairs; no interval for a single pair."""
    differences = differences.dropna()
    if differences.empty:
        return ""
    mean, half = interval(differences)
    sign = "+" if mean >= 0 else "−"
    return f"{sign}{scale * abs(mean):.{digits}f}" + (f" ± {scale * half:.{digits}f}" if half == half else "")


mean_loss, loss_difference = (partial(cell, scale=1, digits=3) for cell in (mean_cell, difference_cell))


def by_length(rows: dict[str, pd.DataFrame], cell, head: str) -> list[list[str]]:
    rows = {label: table for label, table in rows.items() if table.notna().any(axis=None)}
    columns = sorted({length for table in rows.values() for length in table.columns})
    return [
        [head, *map(str, columns)],
        *(
            [label, *(cell(table[length].dropna()) if length in table else "" for length in columns)]
            for label, table in rows.items()
        ),
    ]


# Tables


PAIRS = (
    ("squared_relu, n fixed", "squared_relu, n dynamic"),
    ("squared_relu, n dynamic, mixed lengths", "squared_relu, n dynamic"),
    ("squared_relu, n dynamic, mixed lengths", "squared_relu, n fixed"),
    ("normalized_squared_relu", "squared_relu, n fixed"),
    ("softmax", "squared_relu, n fixed"),
    ("softmax", "squared_relu, n dynamic"),
    ("softmax", "normalized_squared_relu"),
    ("softmax_plus", "softmax"),
)


def tables(lengths, attention, tuning, fine_tuning):
    """Titles and tables."""
    accuracies, losses = (
        {label: values(lengths, arm, m) for label, arm in ARMS.items()} for m in ("accuracy", "loss")
    )
    soft = {label: values(lengths, arm, "loss") for label, arm in SOFTMAX_ARMS.items()}
    differences = {f"{one} − {other}": accuracies[one] - accuracies[other] for one, other in PAIRS}
    soft_differences = {f"{one} − {other}": soft[one] - soft[other] for one, other in SOFTMAX_PAIRS}
    found = {
        "Tuning: masked accuracy in percent after the short runs, by learning rate": tuning_table(tuning),
        "Is attention used? Masked accuracy in percent, contexts intact and shuffled": shuffled_table(lengths),
        "Masked accuracy in percent by length, mean and standard deviation over seeds": by_length(
            accuracies, mean_cell, "arm"
        ),
        "Masked-token loss in nats by length": by_length(losses, mean_loss, "arm"),
        "Differences of masked accuracy in points, 95 % intervals over seeds": by_length(
            differences, difference_cell, "difference"
        ),
        "Which n serves each length: masked accuracy in percent with n -> N (n/N)^p": exponent_table(lengths),
        "Growth of the normalizers: exponent of n, mean and range over layers and seeds": growth_table(
            attention, trained_length(lengths)
        ),
        "log n in training, at inference or not at all: loss in nats": by_length(soft, mean_loss, "arm"),
        "What log n changes: paired differences of loss in nats, 95 % intervals over seeds": by_length(
            soft_differences, loss_difference, "difference"
        ),
        "Position scaling beyond 512: loss in nats": scaling_table(lengths),
        "Attention by length, mean of layers and seeds": attention_table(attention),
    }
    if fine_tuning is not None:
        found["Fine-tuning at short lengths"] = fine_tuning_table(fine_tuning)
    return found.items()


def tuning_table(tuning: pd.DataFrame) -> list[list[str]]:
    rates = sorted(tuning.learning_rate.unique())
    table = [["training", *(f"{rate:g}" for rate in rates)]]
    for name, own in tuning.groupby("training", sort=False):
        own = own.set_index("learning_rate")
        cells = [
            f"{100 * own.accuracy[rate]:.1f} ({own.loss[rate]:.3f})" if rate in own.index else "" for rate in rates
        ]
        table.append([name, *cells])
    return table


def shuffled_table(lengths: pd.DataFrame) -> list[list[str]]:
    shuffled = lengths[(lengths.context == "shuffled") & (lengths.metric == "accuracy")]
    shuffled = shuffled[shuffled.position_scaling == "none"]
    table = [["training", "length", "intact", "shuffled", "difference"]]
    for (*arm, length), own in shuffled.groupby([*SETTING[:3], "length"]):
        intact = values(lengths, arm, "accuracy")
        if length in intact:
            mixed = own.set_index("seed").value
            cells = mean_cell(intact[length]), mean_cell(mixed), difference_cell(mixed - intact[length])
            table.append([arm_label(*arm), str(length), *cells])
    return table


def arm_label(training: str, normalization: str, n: str) -> str:
    words = [training] if normalization == training.removesuffix("_mixed") else [f"{training} as {normalization}"]
    return ", ".join(words + ([] if n == NOT_USED else [f"n {n}"]))


def power_of(n: str) -> float:
    """p of the setting n^p; train is 0 and dynamic 1."""
    return {"train": 0.0, "dynamic": 1.0}[n] if n in ("train", "dynamic") else float(n.removeprefix("n^"))


def powers(lengths: pd.DataFrame, training: str) -> dict[float, pd.DataFrame]:
    """p -> accuracy (seeds x lengths), at the lengths where every p was tried, except that of training."""
    own = lengths[(lengths.training == training) & (lengths.attention_normalization == "squared_relu")]
    names = [n for n in own.n.unique() if n in ("train", "dynamic") or n.startswith("n^")]
    tables = {power_of(n): values(lengths, (training, "squared_relu", n), "accuracy") for n in names}
    shared = [set(table.columns) for table in tables.values()]
    kept = sorted(set.intersection(*shared) - {trained_length(lengths)}) if shared else []
    return {p: tables[p][kept] for p in sorted(tables)}


def trained_length(lengths: pd.DataFrame) -> int:
    return int(lengths.trained_length.iloc[0])


def exponent_table(lengths: pd.DataFrame) -> list[list[str]]:
    """Accuracies by p, the best p, and its lead over the second."""
    table = []
    for training in ("squared_relu", "squared_relu_mixed"):
        tables = powers(lengths, training)
        if not tables:
            continue
        found = by_length({f"{training}, p = {p:g}": part for p, part in tables.items()}, mean_cell, "training, p")
        best, ahead = [], []
        for length in next(iter(tables.values())).columns:
            first, second, *_ = sorted(tables, key=lambda p: -tables[p][length].mean())
            best.append(f"{first:g}")
            ahead.append(f"{difference_cell(tables[first][length] - tables[second][length])} ({second:g})")
        table += [*(found if not table else found[1:]), [f"{training}: best p", *best]]
        table.append([f"{training}: ahead of the second (p)", *ahead])
    return table


def growth(attention: pd.DataFrame, metric: str, lengths: Sequence[int]) -> pd.Series:
    """Exponents by seed and layer for one training and setting; no entry if there is only one length."""
    own = attention[(attention.metric == metric) & attention.length.isin(lengths)].sort_values("length")
    result = {
        key: power_law_exponent(list(part.length), list(part.value), NORMALIZERS[metric])
        for key, part in own.groupby(["seed", "layer"])
    }
    return pd.Series(result, dtype=float).dropna()


def normalizer_of(normalization: str) -> str:
    return "log_sum_exp" if normalization.startswith("softmax") else "sum_squared_relu"


def growth_table(attention: pd.DataFrame, trained: int) -> list[list[str]]:
    columns = sorted(attention.length.unique())
    parts = [n for n in columns if n <= trained], [n for n in columns if n >= trained]
    heads = [f"{part[0]} to {part[-1]}" for part in parts]
    table = [["training and setting", "normalizer", *heads]]
    for arm, own in attention.groupby(SETTING[:3]):
        metric = normalizer_of(arm[1])
        found = [growth(own, metric, chosen) for chosen in parts]
        cells = [f"{one.mean():.2f} ({one.min():.2f} to {one.max():.2f})" if len(one) else "" for one in found]
        table.append([arm_label(*arm), "Σ exp(a)" if "log" in metric else "Σ relu(a)²", *cells])
    return table


def scaling_table(lengths: pd.DataFrame) -> list[list[str]]:
    scaled = lengths[lengths.position_scaling != "none"]
    rows = {}
    for label, arm in (dict(list(ARMS.items())[:4]) | SOFTMAX_ARMS).items():
        if not (scaled.training == arm[0]).any():
            continue
        for scaling in ("none", *sorted(scaled.position_scaling.unique())):
            found = values(lengths, arm, "loss", scaling)
            rows[f"{label}; {scaling}"] = found[[n for n in found.columns if n > trained_length(lengths)]]
    return by_length(rows, mean_loss, "arm; scaling")


def attention_table(attention: pd.DataFrame) -> list[list[str]]:
    names = sorted(attention.length.unique())
    table = [["training and setting", "mean over queries", *map(str, names)]]
    for arm, own in attention.groupby(SETTING[:3]):
        for metric in ("entropy", "keys_90", "zero_share", "distance", "weight_sum"):
            means = own[own.metric == metric].groupby("length").value.mean()
            table.append([arm_label(*arm), metric, *(f"{means[n]:.3g}" if n in means else "" for n in names)])
    return table


def fine_tuning_table(fine_tuning: pd.DataFrame) -> list[list[str]]:
    scores = fine_tuning.assign(column=fine_tuning.task + " " + fine_tuning.metric)
    columns = list(dict.fromkeys(scores.column))
    table = [["fine-tuned as", *columns]]
    found = {
        name: own.pivot(index="seed", columns="column", values="value") for name, own in scores.groupby("fine_tuning")
    }
    for name, own in found.items():
        table.append([name, *(mean_cell(own[column]) if column in own else "" for column in columns)])
    for one, other in FINE_TUNING_PAIRS:
        if one in found and other in found:
            both = found[one] - found[other]
            table.append([f"{one} − {other}", *(difference_cell(both[column].dropna()) for column in columns)])
    return table


FINE_TUNING_PAIRS = (
    ("squared_relu-fixed", "squared_relu-dynamic"),
    ("squared_relu_mixed-dynamic", "squared_relu-dynamic"),
    ("normalized_squared_relu", "squared_relu-dynamic"),
    ("softmax", "squared_relu-fixed"),
    ("softmax", "squared_relu-dynamic"),
    ("softmax_plus", "softmax"),
)


# Figures


LEAST_POINTS = 10  # that an axis of accuracies spans, in percent


def draw(lengths: pd.DataFrame, attention: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figures that there are values for."""
    trained = trained_length(lengths)
    arms = {label: values(lengths, arm, "accuracy") * 100 for label, arm in ARMS.items()}
    soft = {label: values(lengths, arm, "loss") for label, arm in SOFTMAX_ARMS.items()}
    drawn = [
        draw_lengths(arms, trained, "masked accuracy (%)", folder / "arms.png", LEAST_POINTS),
        draw_lengths(soft, trained, "masked-token loss (nats)", folder / "log-n.png"),
        draw_exponents(lengths, folder / "exponents.png"),
        draw_normalizers(attention, trained, folder / "normalizers.png"),
        draw_entropy(attention, trained, folder / "entropy.png"),
    ]
    return [path for path in drawn if path is not None]


def draw_lengths(
    lines: dict[str, pd.DataFrame], trained: int, label: str, path: Path, least: float = LEAST_NATS
) -> Path | None:
    """Means over the seeds by length, on the range of the seeds; None without any values.

    `least` is what the vertical axis spans at least."""
    lines = {name: table for name, table in lines.items() if len(table)}
    if not lines:
        return None
    figure, (axis,) = make_figure()
    styles = strokes(lines)
    for name, table in lines.items():
        (line,) = axis.plot(table.columns, table.mean(), label=name, **LINE | styles[name])
        axis.fill_between(table.columns, table.min(), table.max(), color=line.get_color(), alpha=0.15, linewidth=0)
    scale_to_lengths(axis, [length for table in lines.values() for length in table.columns], [trained])
    axis.set_ylabel(label)
    show_size(axis, least)
    label_lines(axis)
    figure.savefig(path)
    return path


def draw_exponents(lengths: pd.DataFrame, path: Path) -> Path | None:
    """Accuracy over p, one line a length, for the model of one length and that of mixed ones."""
    titles = {"squared_relu": "trained at one length", "squared_relu_mixed": "trained at mixed lengths"}
    found = {training: tables for training in titles if (tables := powers(lengths, training))}
    if not found:
        return None
    from matplotlib import colormaps

    figure, panels = make_figure(len(found))
    colors = colormaps["plasma"]
    for axis, (training, tables) in zip(panels, found.items(), strict=True):
        means = pd.DataFrame({p: table.mean() * 100 for p, table in tables.items()})
        for number, (length, line) in enumerate(means.iterrows()):
            shade = colors(0.9 * number / max(1, len(means) - 1))
            axis.plot(line.index, line, marker="o", markersize=3.5, label=str(length), color=shade)
        axis.set_xlabel("p of n → N (n / N)^p: 0 is fixed, 1 is dynamic")
        axis.set_title(titles[training], fontsize=9)
        show_size(axis, LEAST_POINTS)
    panels[0].set_ylabel("masked accuracy (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8, title="tokens\nin a row")
    figure.savefig(path)
    return path


def draw_normalizers(attention: pd.DataFrame, trained: int, path: Path) -> Path | None:
    """The normalizers over n on logarithmic axes: geometric means of layers and seeds, 1 at the training length."""
    fits = attention.attention_normalization.map(normalizer_of) == attention.metric
    found = {metric: attention[fits & (attention.metric == metric)] for metric in NORMALIZER_TITLES}
    found = {metric: own for metric, own in found.items() if len(own)}
    if not found:
        return None
    figure, panels = make_figure(len(found))
    for axis, (metric, own) in zip(panels, found.items(), strict=True):
        styles = strokes(arm_label(*arm) for arm, _ in own.groupby(SETTING[:3]))
        for arm, part in own.groupby(SETTING[:3]):
            logged = part.assign(value=part.value if NORMALIZERS[metric] else np.log(part.value))
            means = logged.groupby("length").value.mean()
            relative = np.exp(means - means[trained])
            slopes = (
                power_law_exponent(list(half.index), list(half))
                for half in (relative.loc[:trained], relative.loc[trained:])
            )
            label = f"{arm_label(*arm)}: {', then '.join(f'n^{slope:.2f}' for slope in slopes)}"
            axis.plot(relative.index, relative, label=label, **LINE | styles[arm_label(*arm)])
        ticks = sorted(own.length.unique())
        axis.plot(
            ticks, [tick / trained for tick in ticks], color="0.5", linestyle=":", label="n^1, as dynamic n supposes"
        )
        scale_to_lengths(axis, ticks)
        axis.set_yscale("log")
        axis.set_title(NORMALIZER_TITLES[metric], fontsize=9)
        axis.legend(**LEGEND)
    panels[0].set_ylabel(f"normalizer, relative to n = {trained}")
    figure.savefig(path)
    return path


def draw_entropy(attention: pd.DataFrame, trained: int, path: Path) -> Path | None:
    own = attention[attention.metric == "entropy"]
    lines = {
        arm_label(*arm): part.pivot_table(index="seed", columns="length", values="value")
        for arm, part in own.groupby(SETTING[:3])
    }
    return draw_lengths(lines, trained, "entropy of the attention (nats), mean of the layers", path)


if __name__ == "__main__":
    run_program(main)
