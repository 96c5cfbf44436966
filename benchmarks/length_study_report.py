# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Tables and figures of a length study (benchmarks/length_study.py), from small CSV files alone.

    python benchmarks/length_study_report.py --study outputs/length-study --results benchmarks/results/NAME
    python benchmarks/length_study_report.py --results benchmarks/results/NAME

With --study the results of the finished runs are collected into the folder --results first. Then all tables are
printed as Markdown and the figures drawn into that folder, from its files alone. Differences are paired by seed: the
two sides began with the same weights, saw the same batches and were asked for the same tokens. Intervals are 95 %
intervals of Student's t over the seeds; they do not cover the choice of the text. Needs matplotlib and scipy.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from modeling_gau.glue_report import markdown
from modeling_gau.length_results import power_law_exponent
from modeling_gau.length_settings import NOT_USED


SETTING = ["training", "attention_normalization", "n", "position_scaling", "context"]
NORMALIZERS = ["log_sum_exp", "sum_squared_relu"]
KEPT_STATISTICS = [*NORMALIZERS, "weight_sum", "zero_share", "entropy", "keys_90", "distance"]
TRAINED = 512
# The arms that are compared: label -> training, normalization, n.
ARMS = {
    "squared_relu, n fixed": ("squared_relu", "squared_relu", "train"),
    "squared_relu, n dynamic": ("squared_relu", "squared_relu", "dynamic"),
    "squared_relu, n dynamic, mixed lengths": ("squared_relu_mixed", "squared_relu", "dynamic"),
    "normalized_squared_relu": ("normalized_squared_relu", "normalized_squared_relu", NOT_USED),
    "softmax": ("softmax", "softmax", NOT_USED),
    "softmax_plus": ("softmax", "softmax_plus", "dynamic"),
}
# What is done with log n in training and at inference: label -> training, normalization, n.
SOFTMAX_ARMS = {
    "softmax at 512, none": ("softmax", "softmax", NOT_USED),
    "softmax at 512, log n at inference": ("softmax", "softmax_plus", "dynamic"),
    "softmax mixed, none": ("softmax_mixed", "softmax", NOT_USED),
    "softmax mixed, log n at inference": ("softmax_mixed", "softmax_plus", "dynamic"),
    "softmax_plus mixed, log n in training too": ("softmax_plus_mixed", "softmax_plus", "dynamic"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, help="output_dir of benchmarks/length_study.py to collect from")
    parser.add_argument(
        "--results", type=Path, required=True, help="folder of the collected files, and of the figures"
    )
    args = parser.parse_args()
    if args.study:
        collect(args.study, args.results)
    lengths = pd.read_csv(args.results / "lengths.csv")
    attention = pd.read_csv(args.results / "attention.csv")
    tuning = pd.read_csv(args.results / "tuning.csv")
    path = args.results / "fine_tuning.csv"
    fine_tuning = pd.read_csv(path) if path.exists() else None
    for title, table in tables(lengths, attention, tuning, fine_tuning):
        print(f"\n### {title}\n\n{markdown(table, left=1)}")
    for path in draw(lengths, attention, args.results):
        print(f"\nWrote {path}")


# Collecting


def collect(study: Path, results: Path) -> None:
    """Writes what the tables and figures need of a study: values of whole models, and of layers in the model's own
    normalization and unscaled positions."""
    results.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(study / "lengths.csv", keep_default_na=False, dtype={"layer": str, "n": str})
    rows = rows.drop_duplicates(["training", "seed", *SETTING[1:], "length", "layer", "metric"])
    whole = rows[(rows.layer == "") & rows.metric.isin(["loss", "accuracy", "masked_tokens"])]
    whole = whole[[*SETTING, "fixed_n", "seed", "length", "metric", "value"]]
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
    """Mean of differences, and half of the width of its 95 % interval; NaN with one difference."""
    differences = np.asarray(differences, float)
    count = len(differences)
    if count < 2:
        return float(differences.mean()), float("nan")
    return float(differences.mean()), float(stats.t.ppf(0.975, count - 1) * stats.sem(differences))


def mean_cell(column: pd.Series, percent: bool = True) -> str:
    scale, digits = (100, 1) if percent else (1, 3)
    spread = f" ± {scale * column.std():.{digits}f}" if len(column) > 1 else ""
    return f"{scale * column.mean():.{digits}f}{spread}"


def difference_cell(differences: pd.Series, percent: bool = True) -> str:
    scale, digits = (100, 1) if percent else (1, 3)
    mean, half = interval(differences)
    sign = "+" if mean >= 0 else "−"
    return f"{sign}{scale * abs(mean):.{digits}f} ± {scale * half:.{digits}f}"


def by_length(rows: dict[str, pd.DataFrame], cell, head: str) -> list[list[str]]:
    rows = {label: table for label, table in rows.items() if len(table)}
    columns = sorted({length for table in rows.values() for length in table.columns})
    return [
        [head, *map(str, columns)],
        *(
            [label, *(cell(table[length]) if length in table else "" for length in columns)]
            for label, table in rows.items()
        ),
    ]


# Tables


def tables(lengths, attention, tuning, fine_tuning):
    yield "Tuning: masked accuracy in percent after the short runs, by learning rate", tuning_table(tuning)
    yield "Is attention used? Masked accuracy in percent, contexts intact and shuffled", shuffled_table(lengths)
    arms = {label: values(lengths, arm, "accuracy") for label, arm in ARMS.items()}
    yield (
        "Masked accuracy in percent by length, mean and standard deviation over seeds",
        by_length(arms, mean_cell, "arm"),
    )
    losses = {label: values(lengths, arm, "loss") for label, arm in ARMS.items()}
    yield "Masked-token loss in nats by length", by_length(losses, lambda c: mean_cell(c, False), "arm")
    pairs = (
        ("squared_relu, n fixed", "squared_relu, n dynamic"),
        ("squared_relu, n dynamic, mixed lengths", "squared_relu, n dynamic"),
        ("squared_relu, n dynamic, mixed lengths", "squared_relu, n fixed"),
        ("normalized_squared_relu", "squared_relu, n fixed"),
        ("softmax", "squared_relu, n fixed"),
        ("softmax", "squared_relu, n dynamic"),
        ("softmax", "normalized_squared_relu"),
        ("softmax_plus", "softmax"),
    )
    found = {f"{one} − {other}": arms[one] - arms[other] for one, other in pairs}
    yield (
        "Differences of masked accuracy in points, 95 % intervals over seeds",
        by_length(found, difference_cell, "difference"),
    )
    yield "Which n serves each length: masked accuracy in percent with n -> N (n/N)^p", exponent_table(lengths)
    yield "Growth of the normalizers: exponent of n, mean and range over layers and seeds", growth_table(attention)
    soft = {label: values(lengths, arm, "loss") for label, arm in SOFTMAX_ARMS.items()}
    yield (
        "log n in training, at inference or not at all: loss in nats",
        by_length(soft, lambda c: mean_cell(c, False), "arm"),
    )
    against = {label: table - soft["softmax at 512, none"] for label, table in soft.items()}
    del against["softmax at 512, none"]
    yield (
        "The same, differences of loss from softmax at 512",
        by_length(against, lambda c: difference_cell(c, False), "arm"),
    )
    yield "Position scaling beyond 512: loss in nats", scaling_table(lengths)
    yield "Attention by length, mean of layers and seeds", attention_table(attention)
    if fine_tuning is not None:
        yield "Fine-tuning at short lengths", fine_tuning_table(fine_tuning)


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
    table = [["training", "length", "intact", "shuffled", "difference"]]
    for (*arm, length), own in shuffled.groupby([*SETTING[:3], "length"]):
        intact = values(lengths, arm, "accuracy")[length]
        mixed = own.set_index("seed").value
        label = arm[0] if arm[2] == NOT_USED else f"{arm[0]}, n {arm[2]}"
        table.append([label, str(length), mean_cell(intact), mean_cell(mixed), difference_cell(mixed - intact)])
    return table


def power_of(n: str) -> float:
    """p of the setting n^p; train is 0 and dynamic 1."""
    return {"train": 0.0, "dynamic": 1.0}.get(n) if n in ("train", "dynamic") else float(n.removeprefix("n^"))


def exponent_table(lengths: pd.DataFrame) -> list[list[str]]:
    table = []
    for training in ("squared_relu", "squared_relu_mixed"):
        own = lengths[(lengths.training == training) & lengths.n.str.match(r"train|dynamic|n\^")]
        rows = {}
        for n in sorted(own.n.unique(), key=power_of):
            rows[n] = values(lengths, (training, "squared_relu", n), "accuracy")
        if not rows:
            continue
        found = by_length(
            {f"{training}, p = {power_of(n):g}": part for n, part in rows.items()}, mean_cell, "training, p"
        )
        means = pd.DataFrame({power_of(n): part.mean() for n, part in rows.items()})
        best = [f"{means.loc[int(length)].idxmax():g}" if int(length) != TRAINED else "any" for length in found[0][1:]]
        table += [*(found if not table else found[1:]), [f"{training}: best p", *best]]
    return table


def growth(attention: pd.DataFrame, metric: str, lengths: Sequence[int]) -> pd.Series:
    """The exponents of each layer and seed of one training and setting."""
    own = attention[(attention.metric == metric) & attention.length.isin(lengths)]
    result = {}
    for key, part in own.groupby(["seed", "layer"]):
        points = part.sort_values("length")
        logged = points.value - points.value.iloc[0] if metric == "log_sum_exp" else np.log(points.value)
        result[key] = power_law_exponent(list(points.length), list(np.exp(logged)))
    return pd.Series(result)


def growth_table(attention: pd.DataFrame) -> list[list[str]]:
    table = [["training and setting", "normalizer", "16 to 512", "512 to 4096"]]
    for (training, normalization, n), own in attention.groupby(["training", "attention_normalization", "n"]):
        metric = "log_sum_exp" if normalization.startswith("softmax") else "sum_squared_relu"
        cells = []
        for chosen in ((16, 32, 64, 128, 256, 512), (512, 1024, 2048, 4096)):
            found = growth(own, metric, chosen)
            cells.append(f"{found.mean():.2f} ({found.min():.2f} to {found.max():.2f})")
        label = training if n == NOT_USED else f"{training}, n {n}"
        table.append([f"{label} ({normalization})", "Σ exp(a)" if "log" in metric else "Σ relu(a)²", *cells])
    return table


def scaling_table(lengths: pd.DataFrame) -> list[list[str]]:
    rows = {}
    for label, arm in (ARMS | SOFTMAX_ARMS).items():
        for scaling in ("none", "linear", "ntk", "yarn"):
            found = values(lengths, arm, "loss", scaling)
            found = found[[length for length in found.columns if length > TRAINED]] if len(found) else found
            has_other = len(lengths[(lengths.training == arm[0]) & (lengths.position_scaling != "none")])
            if len(found) and has_other:
                rows[f"{label}; {scaling}"] = found
    return by_length(rows, lambda c: mean_cell(c, False), "arm; scaling")


def attention_table(attention: pd.DataFrame) -> list[list[str]]:
    names = sorted(attention.length.unique())
    table = [["training and setting", "mean over queries", *map(str, names)]]
    for (training, normalization, n), own in attention.groupby(["training", "attention_normalization", "n"]):
        label = training if n == NOT_USED else f"{training}, n {n}"
        for metric in ("entropy", "keys_90", "zero_share", "distance", "weight_sum"):
            means = own[own.metric == metric].groupby("length").value.mean()
            cells = (f"{means[length]:.3g}" if length in means else "" for length in names)
            table.append([f"{label} ({normalization})", metric, *cells])
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


def draw(lengths: pd.DataFrame, attention: pd.DataFrame, folder: Path) -> list[Path]:
    arms = {label: values(lengths, arm, "accuracy") * 100 for label, arm in ARMS.items()}
    soft = {label: values(lengths, arm, "loss") for label, arm in SOFTMAX_ARMS.items()}
    return [
        draw_lengths(arms, "masked accuracy (%)", folder / "arms.png"),
        draw_lengths(soft, "masked-token loss (nats)", folder / "log-n.png"),
        draw_exponents(lengths, folder / "exponents.png"),
        draw_normalizers(attention, folder / "normalizers.png"),
        draw_entropy(attention, folder / "entropy.png"),
    ]


def figure_with_panels(count: int):
    # Not pyplot: it keeps figures in a global state, and would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 if count == 1 else 11, 4.2), dpi=130, layout="constrained")
    panels = [figure.add_subplot(1, count, number + 1) for number in range(count)]
    for axis in panels:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, panels


def over_lengths(axis, lines: dict[str, pd.DataFrame], label: str) -> None:
    """Means of seeds over the length, and the range of the seeds behind them."""
    axis.set_xscale("log", base=2)
    for name, table in lines.items():
        if len(table):
            (line,) = axis.plot(table.columns, table.mean(), marker="o", markersize=3.5, linewidth=1.4, label=name)
            axis.fill_between(table.columns, table.min(), table.max(), color=line.get_color(), alpha=0.15, linewidth=0)
    axis.axvline(TRAINED, color="0.5", linestyle="--", linewidth=1, label="length of training")
    ticks = sorted({length for table in lines.values() for length in table.columns})
    axis.set_xticks(ticks, [str(length) for length in ticks], fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel("length of a row (tokens)")
    axis.set_ylabel(label)
    axis.legend(frameon=False, fontsize=7)


def draw_lengths(lines: dict[str, pd.DataFrame], label: str, path: Path) -> Path:
    figure, (axis,) = figure_with_panels(1)
    over_lengths(axis, lines, label)
    figure.savefig(path)
    return path


def draw_exponents(lengths: pd.DataFrame, path: Path) -> Path:
    """Accuracy over p, one line a length, for the model of one length and that of mixed ones."""
    figure, panels = figure_with_panels(2)
    for axis, training in zip(panels, ("squared_relu", "squared_relu_mixed"), strict=True):
        own = lengths[(lengths.training == training) & (lengths.n != NOT_USED)]
        rows = {power_of(n): values(lengths, (training, "squared_relu", n), "accuracy") for n in own.n.unique()}
        means = pd.DataFrame({p: rows[p].mean() * 100 for p in sorted(rows)})
        colors = {length: number for number, length in enumerate(means.index)}
        for length, line in means.iterrows():
            if length != TRAINED:
                shade = (colors[length] + 0.5) / len(colors)
                axis.plot(
                    line.dropna().index,
                    line.dropna(),
                    marker="o",
                    markersize=3.5,
                    label=f"{length} tokens",
                    color=(shade, 0.25, 1 - shade),
                )
        axis.set_xlabel("p of n → N (n / N)^p: 0 is fixed, 1 is dynamic")
        axis.set_title(
            {"squared_relu": "trained at 512", "squared_relu_mixed": "trained at 64 to 512"}[training], fontsize=9
        )
    panels[0].set_ylabel("masked accuracy (%)")
    panels[1].legend(frameon=False, fontsize=7)
    figure.savefig(path)
    return path


def draw_normalizers(attention: pd.DataFrame, path: Path) -> Path:
    """The normalizers over n on logarithmic axes, geometric means of layers and seeds relative to those at 512."""
    figure, panels = figure_with_panels(2)
    kinds = (
        ("log_sum_exp", "softmax: Σ exp(a), relative to 512", {"softmax", "softmax_plus"}),
        ("sum_squared_relu", "squared ReLU: Σ relu(a)², relative to 512", {"squared_relu", "normalized_squared_relu"}),
    )
    for axis, (metric, title, normalizations) in zip(panels, kinds, strict=True):
        own = attention[(attention.metric == metric) & attention.attention_normalization.isin(normalizations)]
        for (training, normalization, n), part in own.groupby(["training", "attention_normalization", "n"]):
            logged = part.assign(value=part.value if metric.startswith("log") else np.log(part.value))
            means = logged.groupby("length").value.mean()
            relative = np.exp(means - means[TRAINED])
            exponent = power_law_exponent(list(relative.index), list(relative))
            n = "" if n == NOT_USED else f", n {n}"
            axis.plot(
                relative.index,
                relative,
                marker="o",
                markersize=3.5,
                linewidth=1.4,
                label=f"{training} as {normalization}{n}: n^{exponent:.2f}",
            )
        ticks = sorted(own.length.unique())
        axis.plot(
            ticks, [tick / TRAINED for tick in ticks], color="0.5", linestyle=":", label="n^1, as dynamic n supposes"
        )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
        axis.minorticks_off()
        axis.set_xlabel("n: length of a row (tokens)")
        axis.set_title(title, fontsize=9)
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(path)
    return path


def draw_entropy(attention: pd.DataFrame, path: Path) -> Path:
    own, lines = attention[attention.metric == "entropy"], {}
    for (training, normalization, n), part in own.groupby(["training", "attention_normalization", "n"]):
        n = "" if n == NOT_USED else f", n {n}"
        lines[f"{training} as {normalization}{n}"] = part.pivot_table(index="seed", columns="length", values="value")
    return draw_lengths(lines, "entropy of the attention (nats), mean of the layers", path)


if __name__ == "__main__":
    main()
