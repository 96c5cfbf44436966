# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Compares attention normalizations and relative positions on your text at several lengths, with small models.

    python -m modeling_gau.lengths.compare --output_dir outputs/compare --train_file "my_texts/*.txt"
    python -m modeling_gau.lengths.compare --output_dir outputs/compare --train_file reviews.csv \\
        --text_column review --normalizations softmax sigmoid --positions rotary distance --seeds 0 1 2

Trains one small model for every normalization and kind of positions on rows of one length, and measures all of them
on shorter and longer rows. If a normalization uses n, it is measured with n fixed at the training length and with each
row's own n. Writes one table (comparison.md) and one figure (comparison.png). Without --train_file, it uses the
embedded corpus. To continue an interrupted comparison, or to add to a finished one, repeat its command: finished runs
are kept. The output folder has study.yaml, the same comparison as a file for modeling_gau.lengths.study.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd
import torch
import yaml
from transformers.utils import is_matplotlib_available

from ..attention_gau import ATTENTION_NORMALIZATIONS
from ..configuration_gau import NORMALIZATION_USES_N, GAUError
from ..modeling_gau import GAUForMaskedLM
from ..runs.arguments import ModelArguments
from ..runs.command_line import run_program
from ..runs.jobs import device_environments
from ..runs.locks import lock
from ..runs.models import load_tokenizer, resolve_config
from ..runs.options import ArgumentParser
from ..runs.tables import aligned, markdown
from ..text.evaluation_rows import MaskedWindows
from ..text.tokenization import encode_texts
from .measuring import LengthArguments, read_texts, windows_of
from .settings import NOT_USED
from .study import ROOT, STAGES, Study, add_run_arguments, add_text_arguments, check_arguments, check_scripts, run
from .study_file import StudyFile
from .study_report import by_length, draw_lengths, mean_loss, values


# Kinds of relative positions -> changes to the configuration; {} is the start of a bias.
POSITIONS = {
    "rotary": "query_key_offset_init=null",
    "offsets": "query_key_offset_init=1.4",
    "distance": "query_key_offset_init=null,relative_position_bias=distance,relative_position_bias_init={}",
    "rotary_bias": "query_key_offset_init=null,relative_position_bias=rotary,relative_position_bias_init={}",
}
# What each family of normalizations is tried with, and what its bias begins at
# (benchmarks/results/amd-epyc-2-cores-attention-forms.md).
USUAL_POSITIONS = {"softmax": ("rotary", "offsets")}
BIAS_STARTS = {"softmax": 8, "sigmoid": 8}
# Presets, changes to them, and learning rates.
SIZES = {
    "smallest": ("gau-tiny", "hidden_size=128,intermediate_size=256,num_hidden_layers=6", 2e-3),
    "tiny": ("gau-tiny", None, 2e-3),
    "small": ("gau-small", "hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0", 1e-3),
}
_STEP_TOKENS = 2048
_EVALUATION_TOKENS = 16_384
_ENOUGH_MASKED_TOKENS = 1000  # the loss of one token varies by about 3 nats
_START_SECONDS = 15  # of a process: imports, and reading what the first one has prepared


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_command_line(argv)
    check_scripts(ROOT)
    study = Study(study_of(args), args)
    if args.dry_run:
        run(study)
        return
    finished = study.finished()  # raises before hours of work
    with lock(args.output_dir):
        study.prepare_text()
        windows = check_text(study, args)
        write_study(study)
    print(estimate(study, finished, args), *too_few(windows), sep="\n")
    run(study)
    report(study, windows, args)


def parse_command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_text_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        "--normalizations",
        nargs="+",
        choices=list(NORMALIZATION_USES_N),
        metavar="NAME",
        default=["softmax", "squared_relu", "normalized_squared_relu"],
        help=f"which to compare: {', '.join(NORMALIZATION_USES_N)}; by default softmax and the two squared ReLUs",
    )
    parser.add_argument(
        "--positions",
        nargs="+",
        choices=list(POSITIONS),
        metavar="KIND",
        help="for each of them: rotary (alone), offsets (learned, of query and key), distance (a bias by distance) or "
        "rotary_bias; by default rotary and offsets for the softmax family, rotary and distance for the others",
    )
    parser.add_argument("--size", choices=list(SIZES), default="smallest", help="width 128, gau-tiny or gau-small")
    parser.add_argument(
        "--steps", type=int, default=300, help=f"training steps, each of about {_STEP_TOKENS:,} tokens; by default 300"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0],
        help="seeds to train and measure every model with; by default 0 alone",
    )
    parser.add_argument("--max_seq_length", type=int, default=128, help="tokens of a training row; by default 128")
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=int,
        help="tokens of the rows to measure; by default a quarter to 8 times --max_seq_length",
    )
    parser.add_argument(
        "--learning_rates",
        nargs="+",
        type=float,
        help="one for all models, or several to choose the best for each; by default 2e-3 (small: 1e-3)",
    )
    args = parser.parse_args(argv)
    for name, least in {"steps": 1, "max_seq_length": 16}.items():
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(args, name)}.")
    check_arguments(parser, args)
    args.data_dir, args.stages = None, STAGES
    args.lengths = args.lengths or [args.max_seq_length * factor // 4 for factor in (1, 2, 4, 8, 16, 32)]
    return args


# The study


def trainings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name of an arm -> arguments of run_pretrain.py."""
    found, rates = {}, args.learning_rates or [SIZES[args.size][2]]
    for name in args.normalizations:
        family = ATTENTION_NORMALIZATIONS[name].family
        for positions in args.positions or USUAL_POSITIONS.get(family, ("rotary", "distance")):
            changes = POSITIONS[positions].format(BIAS_STARTS.get(family, 1))
            found[f"{name}-{positions}"] = {"attention_normalization": name, "config_overrides": changes}
            if len(rates) == 1:
                found[f"{name}-{positions}"]["learning_rate"] = rates[0]
    return found


def study_of(args: argparse.Namespace) -> StudyFile:
    """What to train and to measure."""
    # Rows of other lengths are cut from other text: each choice of lengths is an evaluation of its own.
    arms, evaluation = trainings(args), "-".join(["lengths", *map(str, sorted(set(args.lengths)))])
    measured = {"trainings": list(arms), "fixed_n": ["dynamic", "train"], "lengths": args.lengths}
    measured |= {"max_tokens": _EVALUATION_TOKENS, "join_documents": True, "statistics": "none"}
    return StudyFile(
        pretrain_recipe=recipe(args),
        seeds=args.seeds,
        trainings=arms,
        learning_rates=args.learning_rates or [],
        tune_steps=args.steps,
        evaluations={evaluation: measured},
    )


def write_study(study: Study) -> None:
    """Writes the study file into the output folder, for those who go on from it."""
    head = "# Written by modeling_gau.lengths.compare, each time: copy it before you change it."
    stated = {name: value for name, value in asdict(study.file).items() if value}
    text = yaml.safe_dump(stated, sort_keys=False, width=119)
    (study.output_dir / "study.yaml").write_text(f"{head}\n\n{text}", encoding="utf-8")


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    """What the trainings have in common."""
    preset, changes, _ = SIZES[args.size]
    return {
        "config_name": preset,
        **({"config_overrides": changes} if changes else {}),
        "max_seq_length": args.max_seq_length,
        "eval_lengths": [args.max_seq_length],
        "max_eval_tokens": _EVALUATION_TOKENS,
        "max_steps": args.steps,
        "per_device_train_batch_size": rows_a_step(args),
        "per_device_eval_batch_size": max(1, 4 * _STEP_TOKENS // args.max_seq_length),
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,  # a share of all steps
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "logging_steps": max(1, args.steps // 20),
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": 100,
        "save_total_limit": 1,
    }


def rows_a_step(args: argparse.Namespace) -> int:
    return max(1, _STEP_TOKENS // args.max_seq_length)


def check_text(study: Study, args: argparse.Namespace) -> MaskedWindows:
    """The text to measure on. Raises ValueError if it does not fill a row of the longest length."""
    tokenizer, longest, count = load_tokenizer(study.output_dir / "tokenizer"), max(args.lengths), 0
    arguments = next(job.arguments for job in study.jobs if job.stage == "evaluate")
    known = {entry.name for entry in fields(LengthArguments)}
    given = LengthArguments(**{key: value for key, value in arguments.items() if key in known})
    for text in read_texts(given):
        count += len(encode_texts([text], tokenizer)[0])
        if count >= longest:
            how = given.max_tokens, given.mlm_probability, given.join_documents, given.seed
            return windows_of(read_texts(given), tokenizer, args.lengths, *how)
    raise GAUError(
        f"The text to measure on has {count:,} tokens, less than a row of {longest:,}: give more text, a "
        f"--validation_file, or --lengths and --max_seq_length of at most {count:,}."
    )


def too_few(windows: MaskedWindows) -> list[str]:
    """A warning where so few tokens are predicted that the losses say little."""
    if windows.masked_tokens >= _ENOUGH_MASKED_TOKENS:
        return []
    return [
        f"Only {windows.masked_tokens:,} masked tokens to measure on, {_ENOUGH_MASKED_TOKENS:,} are wanted: "
        "differences of a few tenths of a nat may be chance. Give more text, or a longer --validation_file."
    ]


# Time


def estimate(study: Study, finished: set[str], args: argparse.Namespace) -> str:
    """How long the unfinished runs will take, by a few training steps."""
    waiting, arms = [job for job in study.jobs if job.name not in finished], ", ".join(study.file.trainings)
    if not waiting:
        return f"Comparing {arms}. All {len(study.jobs)} runs are finished."
    devices = device_environments(args.jobs, needs_cpu=False)
    steps = 0.0
    for job in waiting:
        if job.stage == "evaluate":  # without a backward pass, but with long rows and up to two n
            steps += _EVALUATION_TOKENS / _STEP_TOKENS * len(args.lengths)
        else:
            steps += args.steps
    second = seconds_a_step(study, args, int(devices[0].get("OMP_NUM_THREADS", 1)))
    total = (steps * second + len(waiting) * _START_SECONDS) / min(len(devices), len(waiting))
    return (
        f"Comparing {arms}. To do: {len(waiting)} of {len(study.jobs)} runs, "
        f"{len(devices)} at a time, trainings of {args.steps} steps of {second:.2f} s (measured here): about "
        f"{math.ceil(total / 60)} min."
    )


def seconds_a_step(study: Study, args: argparse.Namespace, threads: int) -> float:
    """The time of a training step of the first model, at random tokens."""
    preset, changes, _ = SIZES[args.size]
    arm = next(iter(study.file.trainings.values()))
    given = ",".join(filter(None, (changes, arm["config_overrides"])))
    size = len(load_tokenizer(study.output_dir / "tokenizer"))
    config = resolve_config(
        ModelArguments(
            config_name=preset, config_overrides=given, attention_normalization=arm["attention_normalization"]
        ),
        vocab_size=size,
        sparse_prediction=True,
    )
    device, before, seconds = "cuda" if torch.cuda.is_available() else "cpu", torch.get_num_threads(), []
    model = GAUForMaskedLM(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(5, size, (rows_a_step(args), args.max_seq_length), device=device)
    labels = torch.where(torch.rand(ids.shape, device=device) < 0.15, ids, -100)
    torch.set_num_threads(threads)
    try:
        for _ in range(4):
            start = time.perf_counter()
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            next(model.parameters()).sum().item()  # waits for a GPU
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return sorted(seconds[1:])[1]


# Results


def report(study: Study, windows: MaskedWindows, args: argparse.Namespace) -> None:
    """Prints the table and writes it and the figure."""
    lengths = pd.read_csv(study.output_dir / "lengths.csv", dtype={"n": str})
    lines = ordered(losses(lengths, study.file.trainings), args.max_seq_length)
    table = by_length(lines, mean_loss, "loss in nats by length")
    words = conditions(windows, args)
    measured = sorted({min(args.lengths), args.max_seq_length, max(args.lengths)} & set(args.lengths))
    if len(lines) > 1:
        words += [f"Lowest loss at {length} tokens: {best(lines, length)}." for length in measured]
    if windows.masked_tokens >= _ENOUGH_MASKED_TOKENS and len(lines) > 1 and len(args.seeds) < 3:
        words.append("With fewer than three seeds, differences below 0.1 nats may be chance: --seeds 0 1 2.")
    print(f"\n{aligned(table)}\n", *words, sep="\n")
    text = "\n".join(f"- {word}" for word in words)
    path = study.output_dir / "comparison.md"
    path.write_text(f"# Masked-token loss over the length\n\n{markdown(table)}\n\n{text}\n", encoding="utf-8")
    written = [path]
    if is_matplotlib_available():
        label = "masked-token loss (nats)"
        written.append(draw_lengths(lines, args.max_seq_length, label, study.output_dir / "comparison.png"))
    else:
        print("To draw a figure, install matplotlib: pip install 'modeling-gau[plot]'.")
    for path in written:
        print(f"Wrote {path}")


def conditions(windows: MaskedWindows, args: argparse.Namespace) -> list[str]:
    """What the losses were measured with."""
    seeds, (count, tokens) = ", ".join(map(str, args.seeds)), windows.inputs.shape
    words = [
        f"Trained at {args.max_seq_length} tokens, {args.steps} steps of {rows_a_step(args)} x {args.max_seq_length} "
        f"tokens, seeds: {seeds}.",
        f"Measured on {windows.masked_tokens:,} masked tokens in {count} windows of {tokens:,} tokens.",
        *too_few(windows),
    ]
    rates = args.learning_rates or [SIZES[args.size][2]]
    if len(rates) == 1:
        words[0] += (
            f" Every model has the learning rate {rates[0]:g}; give several --learning_rates to choose one for each."
        )
    else:
        words.append(
            f"Each learning rate is the best of {len(rates)} on the text that is measured, at "
            f"{args.max_seq_length} tokens: on other text the losses may be slightly higher."
        )
    return words


def losses(lengths: pd.DataFrame, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Label of an arm and its n -> loss, seeds x lengths."""
    found = {}
    for training, arguments in arms.items():
        name = arguments["attention_normalization"]
        uses_n = ATTENTION_NORMALIZATIONS[name].uses_n
        for n, words in {"dynamic": ", n dynamic", "train": ", n fixed"}.items() if uses_n else ((NOT_USED, ""),):
            found[training + words] = values(lengths, (training, name, n), "loss")
    return found


def ordered(lines: Mapping[str, pd.DataFrame], length: int) -> dict[str, pd.DataFrame]:
    """The best at a length first."""
    return dict(sorted(lines.items(), key=lambda item: item[1][length].mean() if length in item[1] else float("inf")))


def best(lines: Mapping[str, pd.DataFrame], length: int) -> str:
    means = {label: table[length].mean() for label, table in lines.items() if length in table}
    label = min(means, key=means.get)
    return f"{label} ({means[label]:.3f})"


if __name__ == "__main__":
    run_program(main)
