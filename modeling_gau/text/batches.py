# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Training batches: the text and length of each, and where a resumed run continues.

A batch depends only on the seed, its number and the text. With an index (map-style data), an epoch is a permutation of
all pages, steps take pages from an endless sequence of epochs, and processes and accumulated batches divide the pages
of a step: any number of processes sees the same steps, and a run resumes by counting. A stream has no index: every
consumer (a data loader worker of a process) reads its own documents section by section, and each batch carries the
place to continue from.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..configuration_gau import GAUError
from .masking import IGNORED_LABEL, Masking
from .packing import FRAME, PackingReport, cut_page, frame_row, pack_section
from .streaming import DocumentStream


# First seeds of independent streams of random numbers.
_LENGTHS, _ORDER, _SECTIONS, _PAGES = range(1, 5)
# A reader of a stream may get no documents for this many epochs in a row: its share changes with every epoch.
_EMPTY_EPOCHS = 64


# Lengths


@dataclass(frozen=True)
class Stage:
    """A part of a run: row lengths and their frequencies, its share of the steps, and its RoPE base (None keeps the
    previous one)."""

    lengths: tuple[int, ...]
    weights: tuple[float, ...]
    share: float = 1.0
    rope_theta: float | None = None

    def __post_init__(self):
        if not self.lengths or min(self.lengths) < FRAME + 1:
            raise GAUError(f"Lengths must be at least {FRAME + 1} ([CLS], one token and [SEP]), got {self.lengths}.")
        if len(set(self.lengths)) < len(self.lengths):
            raise GAUError(f"The lengths of a stage must differ, got {' '.join(map(str, self.lengths))}.")
        if len(self.weights) != len(self.lengths) or not all(0 < weight < math.inf for weight in self.weights):
            raise GAUError(
                f"--mixed_length_weights needs one positive number for each of the {len(self.lengths)} lengths "
                f"{' '.join(map(str, self.lengths))}, got {' '.join(map(str, self.weights))}."
            )
        if not self.share > 0:
            raise GAUError(f"The share of a stage must be positive, got {self.share}.")
        if self.rope_theta is not None and not 1 < self.rope_theta < math.inf:
            raise GAUError(f"The RoPE base of a stage must be a finite number above 1, got {self.rope_theta}.")


def parse_length_schedule(text: str) -> tuple[Stage, ...]:
    """Stages of "512:0.9,2048:0.1": length and share of the steps; "2048:0.1:160000" adds a RoPE base, and
    "128+512:0.9" mixes lengths in a stage.

    Raises:
        ValueError: another form, or the shares do not add up to 1.
    """
    stages = []
    for part in text.split(","):
        fields = part.strip().split(":")
        try:
            lengths = tuple(int(length) for length in fields[0].split("+"))
            share, theta = float(fields[1]), float(fields[2]) if len(fields) == 3 else None
            if len(fields) > 3:
                raise ValueError
        except (IndexError, ValueError):
            raise GAUError(
                f"--length_schedule: {part!r} is not LENGTH:SHARE or LENGTH:SHARE:ROPE_BASE. An example: "
                "'512:0.9,2048:0.1:160000', or '128+512:0.9,2048:0.1' with mixed lengths in the first stage."
            ) from None
        stages.append(Stage(lengths, (1.0,) * len(lengths), share, theta))
    total = sum(stage.share for stage in stages)
    if abs(total - 1) > 1e-6:
        raise GAUError(f"--length_schedule: the shares add up to {total:g}, not to 1.")
    return tuple(stages)


class LengthPlan:
    """The row length of every step, shared by all its batches.

    Each step draws its length independently, so lengths do not depend on the duration of the run.

    Args:
        stages: in the order of training, their shares adding up to 1.
        max_steps: of the run.
        seed: of the draws.

    Raises:
        ValueError: a stage has no step.
    """

    def __init__(self, stages: Sequence[Stage], max_steps: int, seed: int):
        self.stages, self.seed = tuple(stages), seed
        ends = np.cumsum([stage.share for stage in stages])
        self._ends = np.round(ends * max_steps).astype(int)
        if (np.diff(self._ends, prepend=0) == 0).any():
            raise GAUError(
                f"--length_schedule: a stage gets none of the {max_steps} steps. Raise --max_steps or its share."
            )

    def _begun(self, step: int) -> tuple[Stage, ...]:
        return self.stages[: int(np.searchsorted(self._ends, step, "right")) + 1]

    def rope_theta(self, step: int) -> float | None:
        """The base in effect at a step; None before the first stage that states one."""
        stated = [stage.rope_theta for stage in self._begun(step) if stage.rope_theta is not None]
        return stated[-1] if stated else None

    def length(self, step: int) -> int:
        stage = self._begun(step)[-1]
        if len(stage.lengths) == 1:
            return stage.lengths[0]
        weights = np.array(stage.weights) / sum(stage.weights)
        return int(np.random.default_rng((_LENGTHS, self.seed, step)).choice(stage.lengths, p=weights))


def all_lengths(stages: Sequence[Stage]) -> list[int]:
    """The row lengths of a run, shortest first."""
    return sorted({length for stage in stages for length in stage.lengths})


def check_lengths(stages: Sequence[Stage], positions: int) -> None:
    """Raises ValueError if a length does not divide the longest one, or the longest does not divide `positions`, the
    batch size of one process in tokens."""
    lengths = all_lengths(stages)
    longest = lengths[-1]
    odd = [length for length in lengths if longest % length]
    if odd:
        raise GAUError(
            f"--mixed_lengths, --length_schedule: every row length must divide the longest one, {longest}, so that "
            f"all steps have equally many tokens; {', '.join(map(str, odd))} {'do' if len(odd) > 1 else 'does'} not. "
            "Powers of two work."
        )
    if positions % longest:
        raise GAUError(
            f"A batch of one process has {positions} positions (--per_device_train_batch_size × --max_seq_length). "
            f"Make that a multiple of {longest}, the longest row."
        )


@dataclass(frozen=True)
class BatchShape:
    """How the pages of a step are divided.

    Args:
        plan: lengths by step.
        tokens: positions of a batch of one process, the same at every length.
        accumulation: batches that one process takes to a step.
        rank, world: of the process.
        steps: of the run.

    Raises:
        ValueError: as [`check_lengths`].
    """

    plan: LengthPlan
    tokens: int
    accumulation: int
    rank: int
    world: int
    steps: int

    def __post_init__(self):
        check_lengths(self.plan.stages, self.tokens)

    @property
    def pages(self) -> int:
        """Pages of a batch of one process."""
        return self.tokens // all_lengths(self.plan.stages)[-1]

    @property
    def batches(self) -> int:
        """Batches of one process in the whole run."""
        return self.steps * self.accumulation

    def first_page(self, batch: int) -> int:
        step, part = divmod(batch, self.accumulation)
        return ((step * self.accumulation + part) * self.world + self.rank) * self.pages


# From pages to tensors


@dataclass(frozen=True)
class Totals:
    """Sums over batches: of one, of all that a process has trained on, or of all processes."""

    positions: int = 0
    tokens: int = 0
    left_out: int = 0
    positions_by_length: Mapping[int, int] = field(default_factory=dict)
    packing: PackingReport = field(default_factory=PackingReport)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.positions + other.positions,
            self.tokens + other.tokens,
            self.left_out + other.left_out,
            dict(Counter(self.positions_by_length) + Counter(other.positions_by_length)),
            self.packing + other.packing,
        )


def sum_totals(parts: Sequence[Mapping]) -> Totals:
    """The sum of totals given as dictionaries, also if read from JSON."""
    total = Totals()
    for part in parts:
        by_length = {int(length): positions for length, positions in part["positions_by_length"].items()}
        read = {"positions_by_length": by_length, "packing": PackingReport(**part["packing"])}
        total += Totals(**{**part, **read})
    return total


@dataclass
class BatchFacts:
    """Facts about a batch. `place` is where the consumer of a stream continues after it."""

    batch: int
    length: int
    epoch: float
    worker: int = 0
    place: dict | None = None
    packing: PackingReport = field(default_factory=PackingReport)
    totals: Totals = field(default_factory=Totals)


@dataclass
class BatchMaker:
    """Cuts pages to rows of a length, masks them, pads and stacks them.

    Args:
        masking: made of the tokenizer.
        page_length: positions of a page.
        apart: keep the documents of a row apart: `document_ids` (1, 2, ... in a row, 0 for padding) replace the mask,
            and `position_ids` restart with each document.
        fixed_shape: pad every row to the step's length, not to the longest row.
        seed: of cuts and masks.
    """

    masking: Masking
    page_length: int
    apart: bool
    fixed_shape: bool
    seed: int

    def __post_init__(self):
        tokenizer = self.masking.tokenizer
        self.cls, self.sep, self.pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id

    def __call__(
        self, pages: Sequence[tuple[tuple[int, ...], list[np.ndarray]]], facts: BatchFacts
    ) -> dict[str, torch.Tensor | BatchFacts]:
        """Tensors of int64 `(rows, length)`, and `facts`. Pages come with numbers that seed their random choices."""
        rows, left_out = [], 0
        for key, contents in pages:
            generator = np.random.default_rng((_PAGES, self.seed, *key))
            page_rows = [contents]
            if facts.length < self.page_length:
                page_rows, dropped = cut_page(contents, facts.length, self.page_length // facts.length, generator)
                left_out += dropped
            for row in page_rows:
                framed = list(frame_row(row, self.cls, self.sep))
                rows.append((framed, *self.masking(np.concatenate(framed), generator)))
        width = facts.length
        if not self.fixed_shape:
            longest = max(len(inputs) for _, inputs, _ in rows)
            width = min(self.page_length, -(-longest // 8) * 8)
            facts.length = min(self.page_length, -(-longest // 64) * 64)  # few values, for the count of operations
        batch = self._stack(rows, width)
        positions, tokens = batch["input_ids"].numel(), sum(len(inputs) for _, inputs, _ in rows)
        facts.totals = Totals(positions, tokens, left_out, {facts.length: positions}, facts.packing)
        if tokens == positions:
            batch.pop("attention_mask", None)  # without a mask attention has less to do
        return batch | {"facts": facts}

    def _stack(self, rows: list[tuple[list[np.ndarray], np.ndarray, np.ndarray]], width: int) -> dict:
        shape = (len(rows), width)
        arrays = {"input_ids": np.full(shape, self.pad), "labels": np.full(shape, IGNORED_LABEL)}
        others = ("position_ids", "document_ids") if self.apart else ("attention_mask",)
        arrays |= {name: np.zeros(shape, np.int64) for name in others}
        for number, (framed, inputs, labels) in enumerate(rows):
            row = number, slice(len(inputs))
            arrays["input_ids"][row], arrays["labels"][row] = inputs, labels
            if self.apart:
                lengths = [len(part) for part in framed]
                arrays["position_ids"][row] = np.concatenate([np.arange(length) for length in lengths])
                arrays["document_ids"][row] = np.repeat(np.arange(1, len(framed) + 1), lengths)
            else:
                arrays["attention_mask"][row] = 1
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


# Sources of batches


class IndexedBatches(torch.utils.data.Dataset):
    """Batches by number from pages that can be addressed."""

    def __init__(self, pages: Sequence[list[np.ndarray]], maker: BatchMaker, shape: BatchShape):
        self.pages, self.maker, self.shape = pages, maker, shape
        self._orders = {}

    def __len__(self) -> int:
        return self.shape.batches

    def __getitem__(self, batch: int) -> dict:
        first = self.shape.first_page(batch)
        numbers = range(first, first + self.shape.pages)
        facts = BatchFacts(
            batch=batch,
            length=self.shape.plan.length(batch // self.shape.accumulation),
            # Of all processes together: they must agree on where an epoch ends.
            epoch=(batch + 1) * self.shape.world * self.shape.pages / len(self.pages),
        )
        return self.maker([((number,), self.pages[self._page(number)]) for number in numbers], facts)

    def _page(self, number: int) -> int:
        epoch, place = divmod(number, len(self.pages))
        if epoch not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known == epoch - 1}
            generator = np.random.default_rng((_ORDER, self.maker.seed, epoch))
            self._orders[epoch] = generator.permutation(np.arange(len(self.pages), dtype=np.int32))
        return int(self._orders[epoch][place])


@dataclass(frozen=True)
class Place:
    """Where a consumer of a stream stands: `page` pages of the section that begins at `position` are used up."""

    epoch: int = 0
    position: tuple[int, int] = (0, 0)
    section: int = 0
    page: int = 0


class StreamedBatches(IterableDataset):
    """Batches from documents as they come, divided among processes and their workers.

    Reads and packs a section of about `section_tokens`, and shuffles its pages. The state is the section's beginning
    and a count, and resuming reads one section again; a shuffle buffer would have to be saved.

    Args:
        stream: the documents.
        encode: texts -> int32 tokens of each, without special tokens.
        packing, long_documents: as in `make_pages`.
        places: worker -> fields of [`Place`] to continue from.
        first: number of the first batch.
    """

    def __init__(
        self,
        stream: DocumentStream,
        encode: Callable[[list[str]], list[np.ndarray]],
        maker: BatchMaker,
        shape: BatchShape,
        packing: str,
        long_documents: str,
        places: Mapping[int, Mapping] | None = None,
        first: int = 0,
        section_tokens: int | None = None,
    ):
        self.stream, self.encode, self.maker, self.shape = stream, encode, maker, shape
        self.packing, self.long_documents = packing, long_documents
        self.places, self.first = dict(places or {}), first
        self._open = None
        # Large enough that the few short pages at a section's end hardly matter.
        self.section_tokens = section_tokens or max(2**19, 256 * maker.page_length)

    def __iter__(self) -> Iterator[dict]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        place = Place(**self.places.get(worker, {}))
        pages = self._pages(place, self.shape.rank * workers + worker, self.shape.world * workers)
        # Batch n is that of worker n mod workers, also after a resume in the middle of a round.
        first = self.first + (worker - self.first) % workers
        for number in range(first, self.shape.batches, workers):
            taken, packing = [], PackingReport()
            for _ in range(self.shape.pages):
                key, contents, place, report = next(pages)
                taken.append((key, contents))
                packing += report
            facts = BatchFacts(
                batch=number,
                length=self.shape.plan.length(number // self.shape.accumulation),
                epoch=place.epoch,
                worker=worker,
                place=asdict(place),
                packing=packing,
            )
            yield self.maker(taken, facts)

    def _pages(
        self, place: Place, consumer: int, consumers: int
    ) -> Iterator[tuple[tuple[int, ...], list[np.ndarray], Place, PackingReport]]:
        empty = uncounted = 0
        while True:
            bad_rows = self.stream.bad_rows - uncounted
            contents, following = self._read_section(place, consumer, consumers)
            empty = 0 if contents else empty + 1
            if empty > _EMPTY_EPOCHS:
                raise GAUError(
                    f"Consumer {consumer + 1} of {consumers} of the stream gets no documents: there are fewer "
                    "documents than processes × data loader workers. Lower --dataloader_num_workers, or leave "
                    "--streaming out."
                )
            uncounted = 0 if contents else self.stream.bad_rows - bad_rows
            if contents:
                sep = self.maker.sep
                pages = pack_section(contents, self.maker.page_length, self.packing, self.long_documents, sep)
                pages.report.bad_rows = self.stream.bad_rows - bad_rows
                order = np.random.default_rng((_SECTIONS, self.maker.seed, consumer, place.section))
                order = order.permutation(len(pages)).tolist()
                for index in range(place.page, len(pages)):
                    after = Place(place.epoch, place.position, place.section, index + 1)
                    new = pages.report if index == 0 else PackingReport()  # counted with the first page
                    yield (consumer, place.section, index), pages[order[index]], after, new
            place = following

    def _read_section(self, place: Place, consumer: int, consumers: int) -> tuple[list[np.ndarray], Place]:
        """Tokens of the section that begins at `place`, and the place of the next one."""
        contents, texts, tokens, characters = [], [], 0, 0
        section = place.section + 1
        # Stays open: returning to a place means reading its file from the beginning.
        beginning, documents = self._open or (None, None)
        if beginning != (place.epoch, tuple(place.position)):
            documents = self.stream.documents(place.epoch, list(place.position), consumer, consumers)
        for position, text in documents:
            texts.append(text)
            characters += len(text)
            # Encoding many documents at once is faster; a token has at least one character.
            if characters >= max(2**16, self.section_tokens - tokens):
                contents += [ids for ids in self.encode(texts) if len(ids)]
                tokens, texts, characters = sum(map(len, contents)), [], 0
                if tokens >= self.section_tokens:
                    self._open = (place.epoch, tuple(position)), documents
                    return contents, Place(place.epoch, tuple(position), section)
        self._open = None
        contents += [ids for ids in self.encode(texts) if len(ids)]
        return contents, Place(place.epoch + 1, (0, 0), section)


# The loader


class TrainingLoader:
    """All batches of one process in order, without their facts, which it adds up.

    Every process makes its own batches, so Accelerate has nothing to divide.

    Args:
        source: where batches come from.
        options: of `torch.utils.data.DataLoader`: workers, prefetching, pinned memory.
    """

    def __init__(self, source: IndexedBatches | StreamedBatches, **options):
        self.source, self.options = source, options
        self.plan = source.shape.plan
        self.first, self.totals, self.facts = 0, Totals(), None
        self.places = {}

    def __len__(self) -> int:
        """Batches of the whole run, also after a resume."""
        return self.source.shape.batches

    def resume(self, first: int, state: Mapping | None, totals: Mapping | None) -> None:
        """Continues with batch `first`, from what [`state`] returned then (None without such a state).

        Raises:
            ValueError: a stream's state is missing, or from another number of processes or workers.
        """
        self.first = first
        if totals is not None:
            self.totals = sum_totals([totals])
        if not isinstance(self.source, StreamedBatches):
            return
        readers = self._readers()
        if state is None or state.get("readers") != readers:
            there = (
                "no place in it" if state is None or "readers" not in state else _describe_readers(state["readers"])
            )
            raise GAUError(
                f"The stream cannot be resumed: this run reads it with {_describe_readers(readers)}, the checkpoint "
                f"has {there}. Every reader has its own share of the documents: keep --dataloader_num_workers and the "
                "number of processes, or leave --streaming out."
            )
        self.places = {int(worker): place for worker, place in state["places"].items()}

    def _readers(self) -> dict[str, int]:
        return {"processes": self.source.shape.world, "workers": self.options.get("num_workers", 0)}

    def state(self) -> dict:
        """Where the readers of a stream stand after the last batch, for JSON; empty with an index."""
        if not isinstance(self.source, StreamedBatches):
            return {}
        return {"readers": self._readers(), "places": {str(worker): place for worker, place in self.places.items()}}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        # Its own generator: the loader would draw from dropout's, once more in a resumed run.
        options = {"generator": torch.Generator(), **self.options}
        if isinstance(self.source, StreamedBatches):
            self.source.places, self.source.first = self.places, self.first
        else:
            options["sampler"] = range(self.first, len(self))
        loader = DataLoader(self.source, batch_size=None, worker_init_fn=_one_thread, **options)
        early, batches = {}, iter(loader)
        for number in range(self.first, len(self)):
            # The loader asks its workers in turn, from the first. A run resumed in mid-round begins with another.
            while number not in early:
                batch = next(batches)
                early[batch["facts"].batch] = batch
            batch = early.pop(number)
            facts = self.facts = batch.pop("facts")
            self.totals += facts.totals
            if facts.place is not None:
                self.places[facts.worker] = facts.place
            yield batch

    @property
    def epoch(self) -> float:
        """Epochs of the data: a fraction with an index, the number of the current one of a stream."""
        return self.facts.epoch if self.facts else 0.0


def _describe_readers(readers: Mapping[str, int]) -> str:
    return f"{readers['processes']} process(es) of {readers['workers']} worker(s)"


def _one_thread(worker: int) -> None:
    # Workers run side by side: threads of their tokenizers would compete.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
