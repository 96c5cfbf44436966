# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Measures a pretrained encoder, and its attention, at lengths other than its own.

    python -m modeling_gau.lengths --model_name_or_path outputs/quickstart --corpus_file "docs/*.txt" \\
        --fixed_n dynamic train n^0.5 --output_file lengths.csv
    python -m modeling_gau.lengths.figures lengths.csv

The same tokens of the same documents are masked at every length, so results differ only by the context. A cell is a
checkpoint at one length in one setting: an n, a normalization, a scaling of the rotary positions, a context. The
tool skips cells that the output file already has.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..attention_gau import ATTENTION_NORMALIZATIONS
from ..configuration_gau import GAUConfig, GAUError
from ..modeling_gau import GAUForMaskedLM, GAURotaryEmbedding
from ..runs import models
from ..runs.locks import lock_results
from ..runs.models import check_fit, load_with_misfits
from ..runs.recipes import parse_arguments
from ..text.arguments import DataArguments
from ..text.documents import column_values, read_documents
from ..text.evaluation_rows import MaskedWindows, join_documents, mask_windows
from ..text.long_context import nearest_copies, repeat_passages
from ..text.masking import IGNORED_LABEL, Masking
from ..text.streaming import open_stream
from ..text.tokenization import encode_texts
from .attention_statistics import AttentionStatistics
from .results import Measurement, ResultFile, length_tables, number_or_none, result_rows, statistics_table
from .settings import NOT_USED, POSITION_SCALINGS, Cell, Settings, resolve_fixed_n


logger = logging.get_logger(__name__)

SHORTEST_LENGTH = 16
# Tokens whose every other occurrence is farther away than this are counted by themselves.
COPY_DISTANCES = (8, 64, 512)
_PASSAGE_TOKENS = 32
LONGEST_FACTOR = 8  # times the training length
# Configuration fields that do not change the results, or that every cell sets.
_NOT_OF_THE_MODEL = {
    "_name_or_path", "architectures", "attention_normalization", "auto_map", "dtype", "fixed_n", "id2label",
    "label2id", "num_attention_heads", "sparse_prediction", "transformers_version", "unpad_inputs",
}  # fmt: skip


@dataclass
class LengthArguments:
    """What to measure, on which text."""

    model_name_or_path: list[str] | None = field(
        default=None, metadata={"help": "Checkpoints of a GAU masked language model: directories or names on the Hub."}
    )
    corpus_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Text with long documents: files, globs or directories, as run_pretrain.py reads them. Default: "
            "the text that run_pretrain.py holds out of the embedded corpus, joined."
        },
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Dataset of text files on the Hub instead: its validation split, or if it has none, the 5 percent "
            "of documents that run_pretrain.py holds out."
        },
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    text_column: str = field(default="text", metadata={"help": "Column that holds the text."})
    text_unit: Literal["document", "paragraph", "line"] = field(
        default="document", metadata={"help": "What counts as a document in a txt file."}
    )
    join_documents: bool = field(
        default=False,
        metadata={"help": "Join documents that are shorter than the longest row, as pretraining does."},
    )
    skip_bad_rows: bool = field(default=False, metadata={"help": "Skip rows that cannot be read."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of checkpoints on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Access token for the Hub; by default the one you logged in with."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder for downloads from the Hub."})
    lengths: list[int] | None = field(
        default=None,
        metadata={"help": "Lengths of the rows; powers of two from 16 to 8 times the training length by default."},
    )
    fixed_n: list[str] | None = field(
        default=None,
        metadata={
            "help": "What the normalization uses as n: 'dynamic' (visible keys; in a full layer the row's length), "
            "'train' (the training length N), a number, 'n^0.5' for N (n / N)^0.5 with the row's length n, or 'own' "
            "(the checkpoint's fixed_n). Default: dynamic and train. Ignored by normalizations without n."
        },
    )
    attention_normalization: list[str] | None = field(
        default=None, metadata={"help": "Normalizations to load the checkpoints with; their own by default."}
    )
    position_scaling: list[str] = field(
        default_factory=lambda: ["none"],
        metadata={
            "help": "Scaling of rotary positions beyond the training length: none, linear, ntk, yarn (without its "
            "factor on the scores where a normalization is not a softmax)."
        },
    )
    context: list[str] = field(
        default_factory=lambda: ["intact"],
        metadata={"help": "'intact', or 'shuffled': all tokens except those to predict, in random order."},
    )
    trained_length: int | None = field(
        default=None,
        metadata={
            "help": "Training length N for fixed_n and positions; by default the checkpoint's reference_length."
        },
    )
    max_tokens: int = field(default=65_536, metadata={"help": "Tokens of text to measure on."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the tokens to predict."})
    batch_tokens: int = field(default=8192, metadata={"help": "Tokens of a batch; at least one row."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16 under autocast, float32 otherwise."})
    statistics: Literal["all", "none"] = field(
        default="all", metadata={"help": "Whether to collect attention statistics of each layer."}
    )
    repeated_passages: bool = field(
        default=False,
        metadata={"help": "Also measure what a passage gains from its copy at the other end of the row."},
    )
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, ...; by default a GPU if there is one."})
    seed: int = field(default=0, metadata={"help": "Seed of masks and shuffled contexts."})
    output_file: str | None = field(
        default=None, metadata={"help": "CSV file for the results; an interrupted run continues it."}
    )

    def __post_init__(self):
        if not self.model_name_or_path:
            raise GAUError("Name one or more checkpoints with --model_name_or_path.")
        if self.corpus_file and self.dataset_name:
            raise GAUError("Name the text to measure on with either --corpus_file or --dataset_name, not with both.")
        if not self.corpus_file and not self.dataset_name:
            self.join_documents = True
        for name in ("max_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise GAUError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if self.lengths and min(self.lengths) < 3:
            raise GAUError(f"--lengths must be at least 3 ([CLS], one token and [SEP]), got {self.lengths}.")
        if self.trained_length is not None and self.trained_length < 2:
            raise GAUError(f"--trained_length must be at least 2, got {self.trained_length}.")
        if not 0 < self.mlm_probability < 1:
            raise GAUError(f"--mlm_probability must lie between 0 and 1, got {self.mlm_probability}.")

    def settings(self) -> "Settings":
        """Raises ValueError for an unknown setting."""
        return Settings(
            fixed_n=tuple(self.fixed_n or ("dynamic", "train")),
            attention_normalization=tuple(self.attention_normalization or ()),
            position_scaling=tuple(self.position_scaling),
            context=tuple(self.context),
        )


# One model


@dataclass(frozen=True)
class Computation:
    """How to compute a cell, and what to measure besides loss and accuracy."""

    bf16: bool = False
    batch_tokens: int = 8192
    statistics: bool = True
    repeated_passages: bool = False


class LoadedCheckpoint:
    """A model that can be configured for one cell after another.

    Args:
        name: a directory or a name on the Hub.
        trained_length: N; by default the checkpoint's `reference_length`.
        hub: `revision`, `token` and `cache_dir` for `from_pretrained`.

    Raises:
        ValueError: the checkpoint is not a GAU masked language model.
    """

    def __init__(self, name: str, device: str, trained_length: int | None = None, **hub: Any):
        self.name, self.device = name, device
        config = read_config(name, **hub)
        self.model, misfits = load_with_misfits(GAUForMaskedLM, name, dtype="float32", **hub)
        check_fit(name, misfits, "Name a masked language model, not one fine-tuned for another task.")
        self.model.to(device).eval()
        self.model.config.sparse_prediction = True
        self.own_normalization, self.own_fixed_n = config.attention_normalization, config.fixed_n
        self.own_reference_length, self.own_rope_parameters = config.reference_length, dict(config.rope_parameters)
        self.trained_length = trained_length or config.reference_length
        self._fields = {key: value for key, value in config.to_dict().items() if key not in _NOT_OF_THE_MODEL}

    def fingerprint(self) -> str:
        """Hash of the weights and of the configuration fields that change results."""
        total = hashlib.blake2b(json.dumps(self._fields, sort_keys=True, default=str).encode(), digest_size=8)
        for name, tensor in sorted(self.model.state_dict().items()):
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().numpy())
        return total.hexdigest()

    def fixed_n(self, cell: Cell) -> int | None:
        return self.own_fixed_n if cell.n == "own" else resolve_fixed_n(cell.n, self.trained_length, cell.length)

    def configure(self, cell: Cell) -> int | None:
        """Configures the model for a cell and returns the cell's `fixed_n`."""
        config, trained = self.model.config, self.trained_length
        config.attention_normalization = cell.attention_normalization
        config.fixed_n = self.fixed_n(cell)
        is_own = cell.attention_normalization == self.own_normalization
        config.reference_length = self.own_reference_length if is_own else trained
        changes = POSITION_SCALINGS[cell.position_scaling](trained, cell.length)
        family = ATTENTION_NORMALIZATIONS[cell.attention_normalization].family
        if cell.position_scaling == "yarn" and family != "softmax":
            # YaRN sharpens a softmax by a factor on cos and sin, which would multiply squared-ReLU weights four times.
            changes = {**changes, "attention_factor": 1.0}
        if changes:
            config.max_position_embeddings = trained  # transformers takes it for the training length
        config.rope_parameters = {**self.own_rope_parameters, **changes}
        config.validate()
        self.model.model.rotary_emb = GAURotaryEmbedding(config).to(self.device)
        return config.fixed_n

    @torch.no_grad()
    def measure(self, cell: Cell, windows: MaskedWindows, run: Computation, progress, seed: int) -> list[Measurement]:
        """Measures the cell that the model is configured for; `seed` shuffles its context."""
        inputs, labels = windows.rows(cell.length)
        if cell.context == "shuffled":
            inputs = shuffle_context(inputs, labels, seed)
        recorder = AttentionStatistics(self.model)
        with recorder if run.statistics else nullcontext():
            losses, hits = self._predict(inputs, labels, run, progress)
        layers = recorder.means() if run.statistics else []
        asked = labels != IGNORED_LABEL
        copies = windows.cut(nearest_copies(windows.inputs, windows.labels), cell.length)[asked]
        values = {}
        for distance in COPY_DISTANCES:
            far = copies > distance
            values |= {
                f"loss_copy_beyond_{distance}": losses[far].mean() if far.any() else math.nan,
                f"accuracy_copy_beyond_{distance}": hits[far].mean() if far.any() else math.nan,
                f"masked_tokens_copy_beyond_{distance}": far.sum(),
            }
        if run.repeated_passages:
            values |= self._repeated_passages(cell, windows, run, progress, seed)
        values |= {
            "constant_guess_accuracy": np.unique(labels[asked], return_counts=True)[1].max() / asked.sum(),
            "loss": losses.mean(),
            "accuracy": hits.mean(),
            "masked_tokens": asked.sum(),
        }
        return [
            *((layer, name, value) for layer, means in enumerate(layers) for name, value in means.items()),
            *((None, name, value) for name, value in values.items()),
        ]

    def _predict(
        self, inputs: np.ndarray, labels: np.ndarray, run: Computation, progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loss in nats and hit (0 or 1) of each labelled token in reading order, float64."""
        losses, hits = [], []
        batch = max(1, run.batch_tokens // inputs.shape[1])
        for start in range(0, len(inputs), batch):
            ids, asked = (
                torch.from_numpy(rows[start : start + batch]).long().to(self.device) for rows in (inputs, labels)
            )
            with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=run.bf16):
                logits = self.model(input_ids=ids, labels=asked).logits.float()
            targets = asked[asked != IGNORED_LABEL]
            losses.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none").cpu().double().numpy())
            hits.append((logits.argmax(-1) == targets).cpu().double().numpy())
            progress.update(ids.numel())
        return np.concatenate(losses), np.concatenate(hits)

    def _repeated_passages(
        self, cell: Cell, windows: MaskedWindows, run: Computation, progress, seed: int
    ) -> dict[str, float]:
        """What the second of two equal passages at the ends of a row gains from the first one."""
        passage = min(_PASSAGE_TOKENS, (cell.length - 2) // 2)
        rows = max(16, windows.inputs.size // cell.length)
        made = repeat_passages(windows, cell.length, passage, rows, seed)
        progress.total = (progress.total or 0) + 2 * made.inputs.size
        values = {}
        for name, inputs in (("repeated", made.inputs), ("alone", made.alone)):
            losses, hits = self._predict(inputs, made.labels, run, progress)
            values |= {f"loss_passage_{name}": losses.mean(), f"accuracy_passage_{name}": hits.mean()}
        return values


def read_config(name: str, **hub: Any) -> GAUConfig:
    """The configuration of a checkpoint. Raises ValueError if it is not a GAU."""
    config = models.read_config(name, **hub)
    if not isinstance(config, GAUConfig):
        raise GAUError(f"{name} is a {config.model_type} checkpoint; only GAU models can be measured.")
    if config.architectures and not any(kind.endswith("ForMaskedLM") for kind in config.architectures):
        logger.warning_once(  # the configuration is read twice
            f"{name} was saved as {', '.join(config.architectures)}: fine-tuning may have changed its masked language "
            "model."
        )
    return config


def shuffle_context(inputs: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows with their tokens at random places, except [CLS], [SEP] and those to predict."""
    generator, shuffled = np.random.default_rng(seed), inputs.copy()
    for row, asked in zip(shuffled, labels, strict=True):
        free = np.flatnonzero(asked[1:-1] == IGNORED_LABEL) + 1
        row[free] = row[generator.permutation(free)]
    return shuffled


# All checkpoints


def default_lengths(trained: int) -> list[int]:
    """Powers of two from 16 to 8 times the training length, and the training length."""
    last = int(math.log2(LONGEST_FACTOR * trained))
    return sorted({trained, *(2**power for power in range(int(math.log2(SHORTEST_LENGTH)), last + 1))})


def measure_length_generalization(
    checkpoints: Sequence[str],
    documents: Iterable[str],
    settings: Settings | None = None,
    *,
    lengths: Sequence[int] | None = None,
    trained_length: int | None = None,
    max_tokens: int = 65_536,
    mlm_probability: float = 0.15,
    join: bool = False,
    computation: Computation | None = None,
    device: str | None = None,
    seed: int = 0,
    output_file: str | Path | None = None,
    revision: str = "main",
    token: str | None = None,
    cache_dir: str | None = None,
) -> list[dict[str, str]]:
    """Measures masked-token prediction and attention of checkpoints at several lengths.

    Args:
        checkpoints: directories or names on the Hub. To be comparable they need the same tokenizer and the same
            longest length; otherwise other tokens are masked.
        documents: texts, read until there are enough tokens; those shorter than the longest row are skipped. Each
            checkpoint's own tokenizer is used.
        settings: what to try at each length; by default n dynamic and fixed at N.
        lengths: of the rows, with [CLS] and [SEP]; by default [`default_lengths`].
        trained_length: the training length N for `fixed_n` and scaled positions; by default each checkpoint's
            `reference_length`.
        max_tokens, mlm_probability: tokens of text, and the share of them to predict, replaced 80/10/10 as in
            BERT; those at [MASK] count.
        join: join documents that are shorter than the longest row, instead of skipping them.
        computation: precision, batch size, and whether to collect attention statistics.
        device: by default a GPU if there is one.
        seed: of masks and shuffled contexts.
        output_file: CSV file, written cell by cell; its cells are not measured again.
        revision, token, cache_dir: for `from_pretrained`.

    Returns:
        Rows of `COLUMNS` as text: for each cell `loss` in nats, `accuracy` and `masked_tokens`, of [MASK] alone, the
        same of tokens whose every other occurrence in the window is farther away than 8, 64 or 512 tokens
        (`loss_copy_beyond_8`, ...), `constant_guess_accuracy` (always the most frequent of these tokens) and, if asked
        for, `loss_passage_repeated` and `loss_passage_alone`, a passage with and without its copy at the other end of
        the row; `ATTENTION_STATISTICS` of each layer.

    Raises:
        ValueError: an unknown setting, a checkpoint that is not a GAU masked language model, documents that are too
            short, a file with results of other weights or text, or one that another program writes.
    """
    hub = {"revision": revision, "token": token, "cache_dir": cache_dir}
    settings, computation = settings or Settings(), computation or Computation()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    checkpoints = list(dict.fromkeys(name.rstrip("/") for name in checkpoints))
    with nullcontext() if output_file is None else lock_results(Path(output_file)):
        file = ResultFile(Path(output_file)) if output_file is not None else None
        plans = {name: _plan(name, settings, lengths, trained_length, hub) for name in checkpoints}
        shortest = min(max(cell.length for cell in cells) for cells in plans.values())
        documents, rows = _LongTexts(documents, 0 if join else shortest - 2), []
        for name, cells in plans.items():
            loaded = LoadedCheckpoint(name, device, trained_length, **hub)
            windows = _windows(loaded, cells, documents, max_tokens, mlm_probability, join, seed, hub)
            rows += _measure_checkpoint(loaded, cells, windows, computation, seed, file)
    return rows


def _check_device(name: str) -> None:
    try:
        torch.empty(1, device=name)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise GAUError(f"--device {name} cannot be used here; cpu always can ({said})") from error


def _measure_checkpoint(
    loaded: LoadedCheckpoint,
    cells: Sequence[Cell],
    windows: MaskedWindows,
    computation: Computation,
    seed: int,
    file: ResultFile | None,
) -> list[dict[str, str]]:
    """The rows of all cells, measured or taken from the file."""
    name, results = loaded.name, {}
    facts = {
        "checkpoint": name,
        "weights": loaded.fingerprint(),
        "corpus": windows.fingerprint() + ("-bf16" if computation.bf16 else ""),
        "trained_length": loaded.trained_length,
    }
    if file is not None:
        file.check(facts)
        wanted = (computation.statistics, computation.repeated_passages)
        found = {cell: file.rows_of(name, cell, loaded.fixed_n(cell), *wanted) for cell in cells}
        results = {cell: rows for cell, rows in found.items() if rows}
    missing = [cell for cell in cells if cell not in results]
    print(
        f"{name}: {windows.masked_tokens:,} masked tokens in {len(windows.inputs)} windows of "
        f"{windows.inputs.shape[1]:,} tokens from {windows.documents} documents; {len(missing)} of "
        f"{len(cells)} cells to measure."
    )
    # Tokens, although attention takes longer in long rows: they are known beforehand.
    total = sum(windows.rows(cell.length)[0].size for cell in missing)
    title = Path(name).name
    with tqdm(total=total, desc=title, unit=" tokens", unit_scale=True, disable=not missing) as progress:
        for cell in missing:
            progress.set_postfix_str(f"length {cell.length}, n {cell.n}, {cell.attention_normalization}")
            fixed_n = number_or_none(loaded.configure(cell))
            measurements = loaded.measure(cell, windows, computation, progress, seed)
            results[cell] = result_rows(facts | {"fixed_n": fixed_n}, cell, measurements)
            if file is not None:
                file.add(results[cell])
    return [row for cell in cells for row in results[cell]]


def _plan(
    name: str, settings: Settings, lengths: Sequence[int] | None, trained_length: int | None, hub: dict[str, Any]
) -> list[Cell]:
    """The cells of a checkpoint. Planning all checkpoints first shows errors before hours go into one of them."""
    config = read_config(name, **hub)
    trained = trained_length or config.reference_length
    cells = list(settings.cells(config, trained, lengths or default_lengths(trained)))
    is_scaled = config.rope_parameters["rope_type"] != "default"
    if is_scaled and any(cell.position_scaling != "none" for cell in cells):
        raise GAUError(
            f"The rotary positions of {name} are scaled already ({config.rope_parameters}): measure it with "
            "position_scaling none."
        )
    if not cells:
        raise GAUError(
            f"Nothing to measure for {name}: positions are scaled only beyond its training length of {trained}."
        )
    if config.fixed_n not in (None, trained) and "own" not in settings.fixed_n:
        logger.warning(f"{name} has a fixed_n of {config.fixed_n}: add --fixed_n own to measure it.")
    if config.sliding_window is not None and any(cell.n not in ("dynamic", "own", NOT_USED) for cell in cells):
        logger.warning(
            f"{name} has layers of local attention, where n counts the keys in the window: a fixed_n of the whole "
            "row's size makes them another model."
        )
    return cells


def _windows(
    loaded: LoadedCheckpoint,
    cells: Sequence[Cell],
    documents: Iterable[str],
    max_tokens: int,
    mlm_probability: float,
    join: bool,
    seed: int,
    hub: dict[str, Any],
) -> MaskedWindows:
    tokenizer, lengths = models.load_tokenizer(loaded.name, **hub), list(dict.fromkeys(cell.length for cell in cells))
    windows = windows_of(documents, tokenizer, lengths, max_tokens, mlm_probability, join, seed)
    if windows.inputs.size < max_tokens:
        logger.warning(
            f"The documents with {windows.inputs.shape[1] + 2:,} tokens or more give {windows.inputs.size:,} tokens, "
            f"fewer than the {max_tokens:,} requested."
        )
    return windows


def windows_of(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    max_tokens: int,
    mlm_probability: float,
    join: bool,
    seed: int,
) -> MaskedWindows:
    """The masked windows that [`measure_length_generalization`] measures on."""
    tokens = (encode_texts([text], tokenizer)[0] for text in documents)
    if join:
        tokens = join_documents(tokens, max(lengths) - 2, tokenizer.sep_token_id)
    return mask_windows(tokens, Masking(tokenizer, mlm_probability), lengths, max_tokens, seed, use_rest=join)


class _LongTexts:
    """Texts that may have at least `tokens` tokens, read once, on demand, and kept for the next checkpoint."""

    def __init__(self, source: Iterable[str], tokens: int):
        self._source, self._tokens, self._kept = iter(source), tokens, []

    def __iter__(self) -> Iterator[str]:
        yield from self._kept
        with tqdm(self._source, desc="Reading documents", unit=" documents", leave=False) as progress:
            for text in progress:
                if len(text.encode()) >= self._tokens:  # a token has at least one byte
                    self._kept.append(text)
                    yield text


# Command line


def read_texts(args: LengthArguments) -> Iterator[str]:
    """Documents of the corpus, read on demand from its files in turn; of the embedded one, those that are held out."""
    if not args.corpus_file and not args.dataset_name:
        return column_values(read_documents(DataArguments(), seed=0).splits["validation"], "text")
    source = {"dataset_name": args.dataset_name, "dataset_config_name": args.dataset_config_name}
    if args.corpus_file:
        source = {"train_file": args.corpus_file, "validation_file": args.corpus_file}
    how = {name: vars(args)[name] for name in ("text_column", "text_unit", "skip_bad_rows")}
    data_args = DataArguments(**source, **how, streaming=True)
    return open_stream(data_args, seed=0, split="validation", token=args.token).documents_in_turn()


def main(argv: list[str] | None = None) -> list[dict[str, str]]:
    """Runs the command and returns the requested rows."""
    (args,) = parse_arguments((LengthArguments,), argv, description=__doc__)
    passed_on = ("lengths", "trained_length", "max_tokens", "mlm_probability", "device", "seed", "output_file")
    rows = measure_length_generalization(
        args.model_name_or_path,
        read_texts(args),
        args.settings(),
        join=args.join_documents,
        computation=Computation(args.bf16, args.batch_tokens, args.statistics == "all", args.repeated_passages),
        **{name: vars(args)[name] for name in (*passed_on, "revision", "token", "cache_dir")},
    )
    for metric in ("loss", "accuracy"):
        print(f"\n{length_tables(rows, metric)}")
    if args.statistics == "all":
        print(f"\n{statistics_table(rows)}")
    if args.output_file:
        print(f"\nWrote {args.output_file}. Figures: python -m modeling_gau.lengths.figures {args.output_file}")
    return rows
