# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""How a pretrained encoder does at other lengths than its own, and what its attention does there.

    python -m modeling_gau.length_generalization --model_name_or_path outputs/quickstart --corpus_file "docs/*.txt" \\
        --fixed_n dynamic train n^0.5 --output_file lengths.csv
    python -m modeling_gau.length_figures lengths.csv

The same tokens of the same documents are masked at every length, so that results differ by the context alone. A cell
is a checkpoint at one length in one setting: an n, a normalization, a scaling of the rotary positions, a context.
Cells that the output file holds are not measured again.
"""

import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from .arguments import DataArguments, parse_arguments
from .attention_gau import ATTENTION_NORMALIZATIONS
from .attention_statistics import AttentionStatistics
from .configuration_gau import GAUConfig
from .glue_report import aligned
from .length_evaluations import MaskedWindows, mask_windows
from .masking import IGNORED_LABEL, Masking
from .modeling_gau import GAUForMaskedLM, GAURotaryEmbedding
from .streaming import open_stream
from .tokenization import encode_texts
from .training import masked_lm_row_totals


logger = logging.get_logger(__name__)

SHORTEST_LENGTH = 16
LONGEST_FACTOR = 8  # times the length of training
# Of the rotary positions, for rows longer than those of training: what `rope_parameters` become, given the length of
# training and that of the rows.
POSITION_SCALINGS = {
    "none": lambda trained, length: {},
    "linear": lambda trained, length: {"rope_type": "linear", "factor": length / trained},
    # transformers' dynamic NTK with factor 1: base * (length / trained)^(key_dim / (key_dim - 2)).
    "ntk": lambda trained, length: {"rope_type": "dynamic", "factor": 1.0},
    "yarn": lambda trained, length: {
        "rope_type": "yarn",
        "factor": length / trained,
        "original_max_position_embeddings": trained,
    },
}


@dataclass
class LengthArguments:
    """What is measured, on which text."""

    model_name_or_path: list[str] | None = field(
        default=None, metadata={"help": "Checkpoints of a GAU masked language model: directories or names on the Hub."}
    )
    corpus_file: list[str] | None = field(
        default=None,
        metadata={"help": "Text with long documents: files, globs or directories, as run_pretrain.py reads them."},
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set of text files on the Hub instead; its validation split is taken."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that data set."})
    text_column: str = field(default="text", metadata={"help": "Column that holds the text."})
    lengths: list[int] | None = field(
        default=None,
        metadata={"help": "Lengths of the rows; by default powers of two from 16 to 8 times the training length."},
    )
    fixed_n: list[str] | None = field(
        default=None,
        metadata={
            "help": "What the normalization takes for n: 'dynamic' (the keys that are seen, in a full layer the row's "
            "length), 'train' (the training length N), a number, or 'n^0.5' for N (n / N)^0.5 with the row's length "
            "n. dynamic and train by default, whatever the checkpoint's own fixed_n. Of no account where the "
            "normalization does not use n."
        },
    )
    attention_normalization: list[str] | None = field(
        default=None, metadata={"help": "Normalizations to load the checkpoints with; their own by default."}
    )
    position_scaling: list[str] = field(
        default_factory=lambda: ["none"],
        metadata={"help": "Of the rotary positions beyond the training length: none, linear, ntk, yarn."},
    )
    context: list[str] = field(
        default_factory=lambda: ["intact"],
        metadata={"help": "'intact', and 'shuffled' for rows whose tokens that are not asked for change places."},
    )
    trained_length: int | None = field(
        default=None, metadata={"help": "Training length N; the checkpoint's reference_length by default."}
    )
    max_tokens: int = field(default=65_536, metadata={"help": "Tokens of text to measure on."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the tokens to predict."})
    batch_tokens: int = field(default=8192, metadata={"help": "Tokens of a batch, or one row if that has more."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16 under autocast, float32 otherwise."})
    statistics: Literal["all", "none"] = field(
        default="all", metadata={"help": "Whether the statistics of the attention of each layer are taken."}
    )
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, ...; a GPU where there is one by default."})
    seed: int = field(default=0, metadata={"help": "Of the masks and of shuffled contexts."})
    output_file: str | None = field(
        default=None, metadata={"help": "CSV file of all results, which a run that was interrupted goes on with."}
    )

    def __post_init__(self):
        if not self.model_name_or_path:
            raise ValueError("Give one or more checkpoints as --model_name_or_path.")
        if bool(self.corpus_file) == bool(self.dataset_name):
            raise ValueError("Give the text to measure on as --corpus_file or as --dataset_name, one of them.")
        for name in ("max_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if self.lengths and min(self.lengths) < 3:
            raise ValueError(f"--lengths must be at least 3 ([CLS], one token and [SEP]), got {self.lengths}.")
        if self.trained_length is not None and self.trained_length < 2:
            raise ValueError(f"--trained_length must be at least 2, got {self.trained_length}.")
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"--mlm_probability must lie between 0 and 1, got {self.mlm_probability}.")

    def settings(self) -> "Settings":
        """Raises ValueError for a setting that is unknown."""
        return Settings(
            fixed_n=tuple(self.fixed_n or ("dynamic", "train")),
            attention_normalization=tuple(self.attention_normalization or ()),
            position_scaling=tuple(self.position_scaling),
            context=tuple(self.context),
        )


@dataclass(frozen=True)
class Settings:
    """The settings to measure, all with all. No normalization means the checkpoint's own.

    Raises:
        ValueError: one is unknown.
    """

    fixed_n: tuple[str, ...] = ("dynamic", "train")
    attention_normalization: tuple[str, ...] = ()
    position_scaling: tuple[str, ...] = ("none",)
    context: tuple[str, ...] = ("intact",)

    def __post_init__(self):
        known = {
            "attention_normalization": tuple(ATTENTION_NORMALIZATIONS),
            "position_scaling": tuple(POSITION_SCALINGS),
            "context": ("intact", "shuffled"),
        }
        for name, allowed in known.items():
            for value in getattr(self, name):
                if value not in allowed:
                    raise ValueError(f"Unknown {name} '{value}'. Allowed: {', '.join(allowed)}.")
        for value in self.fixed_n:
            resolve_fixed_n(value, 512, 512)

    def cells(self, config: GAUConfig, trained: int, lengths: Iterable[int]) -> Iterator["Cell"]:
        """The cells of a checkpoint, without those that would repeat another: positions are scaled beyond the training
        length only, and an n matters only where the normalization uses it."""
        names = self.attention_normalization or (config.attention_normalization,)
        axes = (names, self.position_scaling, self.context, lengths)
        for name, scaling, context, length in product(*map(dict.fromkeys, axes)):
            if scaling != "none" and length <= trained:
                continue
            for n in dict.fromkeys(self.fixed_n) if ATTENTION_NORMALIZATIONS[name].uses_n else (NOT_USED,):
                yield Cell(name, n, scaling, context, length)


NOT_USED = "not used"


@dataclass(frozen=True)
class Cell:
    """One setting at one length."""

    attention_normalization: str
    n: str
    position_scaling: str
    context: str
    length: int


def resolve_fixed_n(text: str, trained: int, length: int) -> int | None:
    """`fixed_n` that 'dynamic', 'train', a number or 'n^p' stands for, with n = `length` and N = `trained`.

    n^p is N (n / N)^p, rounded and at least 1: p = 0 is 'train', p = 1 'dynamic'.

    Raises:
        ValueError: it is none of these.
    """
    if text in ("dynamic", NOT_USED):
        return None
    if text == "train":
        return trained
    if re.fullmatch(r"[1-9]\d*", text):
        return int(text)
    power = re.fullmatch(r"n\^(-?\d+(?:\.\d+)?)", text)
    if power is None:
        raise ValueError(
            f"Unknown fixed_n '{text}'. Allowed: dynamic, train, a positive number, or n^p such as n^0.5."
        )
    return max(1, round(trained * (length / trained) ** float(power[1])))


# ---------------------------------------------------------------------------------------------------------- one model

# Layer (None for what is of the whole model), metric, value.
Measurement = tuple[int | None, str, float]


@dataclass(frozen=True)
class Computation:
    """How a cell is computed."""

    bf16: bool = False
    batch_tokens: int = 8192
    statistics: bool = True


@dataclass
class LoadedCheckpoint:
    """A model that can be put into one setting after the other.

    Args:
        name: as it was given.
        trained_length: N; the checkpoint's `reference_length` if None.

    Raises:
        ValueError: the checkpoint is none of a GAU.
    """

    name: str
    device: str
    trained_length: int | None = None

    def __post_init__(self):
        config = AutoConfig.from_pretrained(self.name)
        if not isinstance(config, GAUConfig):
            raise ValueError(
                f"{self.name} is a checkpoint of {config.model_type}: lengths are measured of GAU models alone."
            )
        self.model = GAUForMaskedLM.from_pretrained(self.name, dtype="float32").to(self.device).eval()
        self.model.config.sparse_prediction = True
        self.own_normalization = config.attention_normalization
        self.own_rope_parameters = dict(config.rope_parameters)
        self.trained_length = self.trained_length or config.reference_length

    def fingerprint(self) -> str:
        total = hashlib.blake2b(digest_size=8)
        for name, tensor in sorted(self.model.state_dict().items()):
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().numpy())
        return total.hexdigest()

    def check(self, cells: Iterable[Cell]) -> None:
        """Raises ValueError where cells are to scale rotary positions that are scaled already."""
        if self.own_rope_parameters["rope_type"] == "default":
            return
        if any(cell.position_scaling != "none" for cell in cells):
            raise ValueError(
                f"The rotary positions of {self.name} are scaled already ({self.own_rope_parameters}): measure it "
                "with position_scaling none."
            )

    def configure(self, cell: Cell) -> int | None:
        """Puts the model into the setting of a cell and returns its `fixed_n`."""
        config, trained = self.model.config, self.trained_length
        config.fixed_n = resolve_fixed_n(cell.n, trained, cell.length)
        config.attention_normalization, config.reference_length = cell.attention_normalization, trained
        changes = POSITION_SCALINGS[cell.position_scaling](trained, cell.length)
        if changes:
            config.max_position_embeddings = trained  # what transformers takes for the length of training
        config.rope_parameters = {**self.own_rope_parameters, **changes}
        config.validate()
        self.model.model.rotary_emb = GAURotaryEmbedding(config).to(self.device)
        return config.fixed_n

    @torch.no_grad()
    def measure(self, cell: Cell, windows: MaskedWindows, run: Computation, progress, seed: int) -> list[Measurement]:
        """Measures a cell, in whose setting the model is; `seed` is that of a shuffled context."""
        inputs, labels = windows.rows(cell.length)
        if cell.context == "shuffled":
            inputs = shuffle_context(inputs, labels, seed)
        totals, batch = np.zeros(3), max(1, run.batch_tokens // cell.length)
        recorder = AttentionStatistics(self.model)
        with recorder if run.statistics else nullcontext():
            for start in range(0, len(inputs), batch):
                ids, asked = (
                    torch.from_numpy(rows[start : start + batch]).long().to(self.device) for rows in (inputs, labels)
                )
                with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=run.bf16):
                    logits = self.model(input_ids=ids, labels=asked).logits
                totals += masked_lm_row_totals(logits, asked).double().sum(0).cpu().numpy()
                progress.update(ids.numel())
        layers = recorder.means() if run.statistics else []
        return [
            *((layer, name, value) for layer, means in enumerate(layers) for name, value in means.items()),
            (None, "loss", totals[0] / totals[2]),
            (None, "accuracy", totals[1] / totals[2]),
            (None, "masked_tokens", totals[2]),
        ]


def shuffle_context(inputs: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows in which the tokens that are not asked for, [CLS] and [SEP] apart, have changed places at random."""
    generator, shuffled = np.random.default_rng(seed), inputs.copy()
    for row, asked in zip(shuffled, labels, strict=True):
        free = np.flatnonzero(asked[1:-1] == IGNORED_LABEL) + 1
        row[free] = row[generator.permutation(free)]
    return shuffled


# ----------------------------------------------------------------------------------------------------------- the file

COLUMNS = (
    "checkpoint", "weights", "corpus", "trained_length", "attention_normalization", "n", "fixed_n",
    "position_scaling", "context", "length", "layer", "metric", "value",
)  # fmt: skip
# The last row of a cell: a cell without it was interrupted.
_LAST_METRIC = "masked_tokens"
# What all results of a checkpoint have in common, and words for it.
_IDENTITY = {"weights": "weights", "corpus": "masked text or precision", "trained_length": "training length"}


def read_results(path: str | Path) -> list[dict[str, str]]:
    """The rows of a file of results, without a last line that is cut short.

    Raises:
        ValueError: its columns are others.
    """
    whole = Path(path).read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    reader = csv.DictReader(io.StringIO(whole.decode("utf-8", errors="replace"), newline=""))
    if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
        raise ValueError(f"{path} is no file of length results: its first line is not {','.join(COLUMNS)}.")
    return list(reader)


class ResultFile:
    """A CSV file that grows by whole cells, and knows those that it holds.

    Args:
        path: of the file, which stays as it is until a cell is added; what it holds of cells that were interrupted is
            then removed from it.

    Raises:
        ValueError: the file is not one of results.
    """

    def __init__(self, path: Path):
        self.path = path
        rows = read_results(path) if path.exists() else []
        self._ended = {self._key(row) for row in rows if row["metric"] == _LAST_METRIC}
        self._with_statistics = {self._key(row) for row in rows if row["layer"]}
        self.rows = [row for row in rows if self._key(row) in self._ended]
        self._identities = {row["checkpoint"]: [row[name] for name in _IDENTITY] for row in self.rows}
        self._is_clean = False

    @staticmethod
    def _key(row: Mapping[str, str]) -> tuple[str, ...]:
        names = ("checkpoint", "attention_normalization", "n", "position_scaling", "context", "length")
        return tuple(str(row[name]) for name in names)

    def check(self, facts: Mapping[str, object]) -> None:
        """Raises ValueError where the file holds results of other weights under that name, on other text or for
        another training length."""
        own = [str(facts[name]) for name in _IDENTITY]
        before = self._identities.get(facts["checkpoint"], own)
        for what, there, here in zip(_IDENTITY.values(), before, own, strict=True):
            if there != here:
                raise ValueError(
                    f"{self.path} holds results of {facts['checkpoint']} with other {what} ({there} there, {here} "
                    "here): take another --output_file, or remove that one."
                )

    def holds(self, checkpoint: str, cell: Cell, statistics: bool) -> bool:
        """Whether a cell is there, with statistics of the attention where they are asked for."""
        key = self._key({"checkpoint": checkpoint} | asdict(cell))
        return key in self._ended and (not statistics or key in self._with_statistics)

    def add(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Appends the rows of a cell, in place of those that it has."""
        key = self._key(rows[-1])
        if key in self._ended:
            self.rows = [row for row in self.rows if self._key(row) != key]
            self._is_clean = False
        if not self._is_clean:
            self._write_whole()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(rows)
        self.rows += rows
        self._ended.add(key)
        if rows[0]["layer"]:
            self._with_statistics.add(key)

    def _write_whole(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(partial, self.path)
        self._is_clean = True


# ---------------------------------------------------------------------------------------------------------- the whole


def default_lengths(trained: int) -> list[int]:
    """Powers of two from 16 to 8 times the training length."""
    longest = LONGEST_FACTOR * trained
    return [2**power for power in range(int(math.log2(SHORTEST_LENGTH)), int(math.log2(longest)) + 1)]


def measure_length_generalization(
    checkpoints: Sequence[str],
    documents: Iterable[str],
    settings: Settings = Settings(),
    *,
    lengths: Sequence[int] | None = None,
    trained_length: int | None = None,
    max_tokens: int = 65_536,
    mlm_probability: float = 0.15,
    computation: Computation = Computation(),
    device: str | None = None,
    seed: int = 0,
    output_file: str | Path | None = None,
) -> list[dict[str, str]]:
    """Measures masked-token prediction and attention of checkpoints at several lengths.

    Args:
        checkpoints: directories or names on the Hub.
        documents: texts, read until there are enough tokens; those with fewer tokens than the longest row are passed
            over. They are tokenized with each checkpoint's own tokenizer.
        settings: what is tried at each length.
        lengths: of the rows, [CLS] and [SEP] included; by default powers of two from 16 to 8 times the training
            length.
        trained_length: the training length N; each checkpoint's `reference_length` by default.
        max_tokens: of the text.
        mlm_probability: share of the tokens to predict, 80/10/10 as in BERT.
        computation: precision and size of the batches, and whether statistics of the attention are taken.
        device: a GPU where there is one by default.
        seed: of the masks and of shuffled contexts.
        output_file: CSV file that is written cell by cell, and whose cells are not measured again.

    Returns:
        Rows of `COLUMNS`, all as text: one for each metric of each cell (`loss` in nats, `accuracy`,
        `masked_tokens`), and of each layer of each cell those of `ATTENTION_STATISTICS`.

    Raises:
        ValueError: an unknown setting, a checkpoint that is none of a GAU, documents that are too short, or a file
            with results of other weights or other text.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    file = ResultFile(Path(output_file)) if output_file is not None else None
    documents, results = _Remembered(documents), []
    for name in checkpoints:
        loaded = LoadedCheckpoint(name, device, trained_length)
        tokenizer = AutoTokenizer.from_pretrained(name)
        chosen = list(lengths or default_lengths(loaded.trained_length))
        tokens = (encode_texts([text], tokenizer)[0] for text in documents)
        windows = mask_windows(tokens, Masking(tokenizer, mlm_probability), chosen, max_tokens, seed)
        facts = {
            "checkpoint": name,
            "weights": loaded.fingerprint(),
            "corpus": windows.fingerprint() + ("-bf16" if computation.bf16 else ""),
            "trained_length": loaded.trained_length,
        }
        if file is not None:
            file.check(facts)
        cells = list(settings.cells(loaded.model.config, loaded.trained_length, chosen))
        missing = [cell for cell in cells if file is None or not file.holds(name, cell, computation.statistics)]
        loaded.check(missing)
        print(
            f"{name}: {windows.masked_tokens:,} masked tokens in {len(windows.inputs)} windows of "
            f"{windows.inputs.shape[1]} tokens from {windows.documents} documents; {len(missing)} of {len(cells)} "
            "cells to measure."
        )
        for cell, fixed_n, measurements in _measure_cells(loaded, missing, windows, computation, seed):
            cell_facts = facts | {"fixed_n": "" if fixed_n is None else fixed_n}
            rows = result_rows(cell_facts, cell, measurements)
            results += rows
            if file is not None:
                file.add(rows)
    return results if file is None else file.rows


class _Remembered:
    """An iterable that is read once, as far as needed, and gives what was read to everybody who asks later."""

    def __init__(self, source: Iterable[str]):
        self._source, self._read = iter(source), []

    def __iter__(self) -> Iterator[str]:
        yield from self._read
        for item in self._source:
            self._read.append(item)
            yield item


def _measure_cells(
    loaded: LoadedCheckpoint, cells: Sequence[Cell], windows: MaskedWindows, computation: Computation, seed: int
) -> Iterator[tuple[Cell, int | None, list[Measurement]]]:
    # Attention takes longer in long rows, but the number of tokens is what can be told beforehand.
    total = sum(windows.rows(cell.length)[0].size for cell in cells)
    with tqdm(
        total=total, desc=Path(loaded.name).name, unit=" tokens", unit_scale=True, disable=not cells
    ) as progress:
        for cell in cells:
            progress.set_postfix_str(f"length {cell.length}, n {cell.n}, {cell.attention_normalization}")
            fixed_n = loaded.configure(cell)
            yield cell, fixed_n, loaded.measure(cell, windows, computation, progress, seed)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def result_rows(facts: Mapping[str, object], cell: Cell, measurements: Iterable[Measurement]) -> list[dict[str, str]]:
    """The rows of a cell, as they are written."""
    common = {name: str(value) for name, value in (facts | asdict(cell)).items()}
    return [
        common | {"layer": "" if layer is None else str(layer), "metric": metric, "value": _number(value)}
        for layer, metric, value in measurements
    ]


# -------------------------------------------------------------------------------------------------- what is printed


def power_law_exponent(lengths: Sequence[float], values: Sequence[float]) -> float:
    """The p of the power law values ~ lengths^p that fits best: the slope by least squares on logarithmic axes; NaN
    with fewer than two positive values."""
    points = [(math.log(x), math.log(y)) for x, y in zip(lengths, values, strict=True) if y > 0]
    if len({x for x, _ in points}) < 2:
        return math.nan
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def describe_setting(row: Mapping[str, str]) -> str:
    """Words for what distinguishes the settings of a checkpoint: 'squared_relu, n dynamic'."""
    words = [row["attention_normalization"]]
    words += [f"n {row['n']}"] if row["n"] != NOT_USED else []
    words += [row["position_scaling"]] if row["position_scaling"] != "none" else []
    words += [row["context"]] if row["context"] != "intact" else []
    return ", ".join(words)


def length_tables(rows: Sequence[Mapping[str, str]], metric: str = "accuracy") -> str:
    """A line for each checkpoint and setting, a column for each length, in aligned text."""
    values = {
        (row["checkpoint"], describe_setting(row), int(row["length"])): float(row["value"])
        for row in rows
        if row["metric"] == metric and row["layer"] == ""
    }
    lengths = sorted({length for _, _, length in values})
    table = [["checkpoint", metric, *map(str, lengths)]]
    for checkpoint, setting in dict.fromkeys((checkpoint, setting) for checkpoint, setting, _ in values):
        cells = (values.get((checkpoint, setting, length)) for length in lengths)
        table.append([checkpoint, setting, *("" if value is None else f"{value:.3f}" for value in cells)])
    return aligned(table, left=2)


def statistics_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The mean over the layers of each statistic of the attention by length, and for the normalizers the exponent of
    their growth with n, in aligned text; one block for each checkpoint and setting with an intact context."""
    values = {}
    for row in rows:
        if row["layer"] and row["context"] == "intact":
            key = (row["checkpoint"], describe_setting(row), row["metric"], int(row["length"]))
            values.setdefault(key, []).append(float(row["value"]))
    lengths = sorted({length for *_, length in values})
    table = [["checkpoint", "setting", "mean over the layers", *map(str, lengths), "exponent"]]
    for checkpoint, setting, metric in dict.fromkeys((a, b, c) for a, b, c, _ in values):
        means = {
            n: float(np.mean(values[checkpoint, setting, metric, n]))
            for n in lengths
            if (checkpoint, setting, metric, n) in values
        }
        exponent = power_law_exponent(list(means), list(means.values())) if metric.startswith("sum_") else math.nan
        cells = [f"{means[n]:.3g}" if n in means else "" for n in lengths]
        table.append([checkpoint, setting, metric, *cells, "" if math.isnan(exponent) else f"{exponent:.2f}"])
    return aligned(table, left=3)


# ------------------------------------------------------------------------------------------------------ command line


def read_texts(args: LengthArguments) -> Iterator[str]:
    """Documents of the corpus, read as they are asked for, from its files in turn."""
    if args.corpus_file:
        data_args = DataArguments(
            train_file=args.corpus_file,
            validation_file=args.corpus_file,
            text_column=args.text_column,
            streaming=True,
        )
    else:
        data_args = DataArguments(
            dataset_name=args.dataset_name,
            dataset_config_name=args.dataset_config_name,
            text_column=args.text_column,
            streaming=True,
        )
    return open_stream(data_args, seed=0, split="validation").documents_in_turn()


def main(argv: list[str] | None = None) -> list[dict[str, str]]:
    """Runs the command with `argv` (the command line by default) and returns the rows of results."""
    (args,) = parse_arguments((LengthArguments,), argv, description=__doc__)
    rows = measure_length_generalization(
        args.model_name_or_path,
        read_texts(args),
        args.settings(),
        lengths=args.lengths,
        trained_length=args.trained_length,
        max_tokens=args.max_tokens,
        mlm_probability=args.mlm_probability,
        computation=Computation(args.bf16, args.batch_tokens, args.statistics == "all"),
        device=args.device,
        seed=args.seed,
        output_file=args.output_file,
    )
    for metric in ("loss", "accuracy"):
        print(f"\n{length_tables(rows, metric)}")
    if args.statistics == "all":
        print(f"\n{statistics_table(rows)}")
    if args.output_file:
        print(f"\nWrote {args.output_file}. Figures: python -m modeling_gau.length_figures {args.output_file}")
    return rows


if __name__ == "__main__":
    main()
