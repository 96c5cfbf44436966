"""Documents read from files while training: in a seeded order, from any position, without a cache."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from datasets import Dataset, load_dataset_builder
from tqdm.auto import tqdm
from transformers.utils import logging

from ..configuration_gau import GAUError
from .arguments import DataArguments
from .documents import (
    PROBLEMS_SHOWN,
    bad_row_error,
    choose_splits,
    dataset_folder,
    find_files,
    is_held_out,
    is_saved_dataset,
    split_files,
)
from .files import file_size, kind_of, read_files, suffix_of
from .fingerprints import contents_fingerprint, digest, files_fingerprint


logger = logging.get_logger(__name__)

Position = list[int]

_VALIDATION_CHARACTERS = 10_000_000
_EVEN = 1.1  # the largest share of the files, divided by the smallest
_OPEN_FILES = 64


@dataclass
class DocumentStream:
    """Documents of files, in an order that depends on the seed and the epoch alone.

    An epoch reads every file once, in a shuffled order; within a file documents keep their order. A stream depends on
    its arguments alone, so copies in other processes agree. Between calls it keeps nothing open and remembers only the
    sizes of the files and the count of bad rows.

    Made by `open_stream`.

    Attributes:
        files: paths or URLs, sorted.
        column: of the text in tables.
        text_unit: what a document of a txt file is.
        seed: of the choice of what is held out.
        held_out_percentage: of the documents, chosen by `is_held_out`: the same as without streaming.
        side: "train" for the documents that are not held out, "validation" for those that are.
        skip_bad_rows: leave out rows that cannot be read; without it the first is a ValueError.
        max_documents: of `validation_documents`.
        validation: the stream of validation documents, for side "train".
        token: for files of the Hub.
        order_seed: of the order of the files; `seed` if None.
        sizes: stored bytes of the files, None where unknown; looked up when first needed.
        bad_rows: rows that this copy of the object has left out.
    """

    files: tuple[str, ...]
    column: str = "text"
    text_unit: str = "document"
    seed: int = 0
    held_out_percentage: float = 0.0
    side: str = "train"
    skip_bad_rows: bool = False
    max_documents: int | None = None
    validation: "DocumentStream | None" = None
    token: str | None = field(default=None, repr=False)
    order_seed: int | None = None
    sizes: tuple[int | None, ...] | None = field(default=None, init=False, repr=False)
    bad_rows: int = field(default=0, init=False)

    def __post_init__(self):
        self.order_seed = self.seed if self.order_seed is None else self.order_seed

    def documents(
        self, epoch: int, position: Sequence[int] = (0, 0), consumer: int = 0, consumers: int = 1
    ) -> Iterator[tuple[Position, str]]:
        """Yields a consumer's documents of an epoch from a position on; every document has one consumer.

        If the shares differ by at most 10 percent, consumer c reads files c, c + consumers, ... of the epoch's order.
        With uneven shares, consumers with small ones would begin the next epoch early and see their documents more
        often, so all consumers pass over all files instead, and row r of file f goes to consumer (r + f) mod
        consumers: they decompress each other's rows and find the line ends, but parse only csv. Many files of one size
        are read fastest. Shares are compared by file size, for each kind and compression separately, or by the number
        of files if a server does not report sizes. Consumers may end an epoch after different numbers of documents.

        Args:
            epoch: any number from 0.
            position: where to begin: [0, 0], or the position yielded with the last document already seen. Valid for
                the same files, seeds, epoch and number of consumers.
            consumer: number of the reader, from 0.
            consumers: number of readers.

        Yields:
            The position after the document, [place of the file in the epoch's order, row], and its text. Documents of
            white space only are left out.

        Raises:
            ValueError: a bad row without `skip_bad_rows` (names file and line); an invalid position or consumer.
            OSError: a file cannot be reached.
        """
        if len(position) != 2 or any(type(number) is not int or number < 0 for number in position):
            raise GAUError(f"A position in a stream is [file, row], two numbers from 0, got {position!r}.")
        if not 0 <= consumer < consumers:
            raise GAUError(f"Consumers are numbered from 0 to {consumers - 1}, got {consumer}.")
        order = sorted(range(len(self.files)), key=lambda file: digest(f"{self.order_seed}:{epoch}:{file}"))
        whole_files = self._shares_are_even(order, consumers)
        return self._read([self.files[file] for file in order], position, consumer, consumers, whole_files)

    def validation_documents(
        self, max_documents: int | None = None, max_characters: int | None = _VALIDATION_CHARACTERS
    ) -> Dataset:
        """Collects validation documents from the files in turn until a limit, with a progress bar.

        Takes the first document of every file, then the second of every file, and so on, so that a part covers all
        sources. More than 64 files are not kept open and give one document each, then two, then four. The order of the
        files does not depend on `order_seed`.

        Args:
            max_documents: at most this many; `max_eval_samples` of the arguments by default.
            max_characters: stop with the document that reaches this number; None for no limit.

        Returns:
            A dataset in memory with the column "text".

        Raises:
            ValueError: there are no validation documents.
        """
        stream = self.validation or self
        if stream.side == "train":
            raise GAUError("This stream has no validation documents: make one with open_stream.")
        return stream.first_documents(max_documents or stream.max_documents, max_characters)

    def first_documents(self, max_documents: int | None = None, max_characters: int | None = None) -> Dataset:
        """Collects documents of this side from the files in turn, as `validation_documents` does.

        Raises:
            ValueError: there are none.
        """
        texts, size = [], 0
        with (
            tqdm(
                total=max_characters, desc=f"Reading {self.side} documents", unit=" characters", unit_scale=True
            ) as progress,
            closing(self.documents_in_turn()) as documents,
        ):
            for text in documents:
                texts.append(text)
                size += len(text)
                progress.update(len(text))
                if len(texts) == max_documents or (max_characters is not None and size >= max_characters):
                    break
        if not texts:
            raise GAUError(self._nothing())
        return Dataset.from_dict({"text": texts})

    def documents_in_turn(self) -> Generator[str, None, None]:
        """Yields the documents of this side once, from the files in turn as in `validation_documents`."""
        order = sorted(range(len(self.files)), key=lambda file: digest(str(file)))
        files = [self.files[file] for file in order]
        return self._in_turn(files) if len(files) <= _OPEN_FILES else self._in_growing_turns(files)

    def _nothing(self) -> str:
        if self.side == "validation" and self.held_out_percentage:
            return (
                f"The {self.held_out_percentage} % held out as validation text include no document of "
                f"{_listed(self.files)}: give --validation_file, raise --validation_split_percentage, or leave "
                "--streaming out if there are few documents."
            )
        held_out = f" and text held out for validation ({self.held_out_percentage} %)"
        return (
            f"There are no documents in {_listed(self.files)}, only white space"
            f"{held_out if self.held_out_percentage else ''} and {self.bad_rows} bad rows."
        )

    def fingerprint(self) -> str:
        """Digest of what determines the documents and their order.

        These are the files, as in `files_fingerprint`, the column, `text_unit`, the seeds, the held-out share and the
        validation files.
        """
        settings = [self.column, self.text_unit, self.order_seed, self.held_out_percentage]
        if self.held_out_percentage:
            settings.append(self.seed)
        own_validation = self.validation is not None and self.held_out_percentage == 0
        settings.append(self.validation.fingerprint() if own_validation else None)
        return files_fingerprint(self.files, settings)

    def contents_fingerprint(self) -> str:
        """Digest of what the local files hold, as far as `contents_fingerprint` of `fingerprints` reads them."""
        own_validation = self.validation is not None and self.held_out_percentage == 0
        return contents_fingerprint([*self.files, *(self.validation.files if own_validation else ())])

    def _file_sizes(self) -> tuple[int | None, ...]:
        if self.sizes is None:
            self.sizes = tuple(file_size(file, self.token) for file in self.files)
        return self.sizes

    def _shares_are_even(self, order: Sequence[int], consumers: int) -> bool:
        """Whether consumers that take the files of this order in turn get about equal shares."""
        if consumers == 1 or len(order) < consumers:
            return consumers == 1
        sizes = self._file_sizes()
        sizes = [1] * len(sizes) if None in sizes else sizes
        shares = {}
        for place, file in enumerate(order):
            # The text in a byte depends on the kind and the compression.
            kind = suffix_of(self.files[file]), PurePosixPath(self.files[file]).suffix
            shares.setdefault(kind, [0] * consumers)[place % consumers] += sizes[file]
        return all(max(share) <= _EVEN * min(share) for share in shares.values())

    def _read(self, files: Sequence[str], *share) -> Iterator[tuple[Position, str]]:
        for file, row in read_files(files, self.column, self.text_unit, *share, token=self.token):
            if row.problem is not None:
                self._note_bad_row(row.problem, is_row=row.number is not None)
            elif self._is_mine(row.text):
                yield [file, row.number + 1], row.text

    def _is_mine(self, text: str) -> bool:
        if self.held_out_percentage == 0:
            return True
        return is_held_out(text, self.held_out_percentage, self.seed) == (self.side == "validation")

    def _note_bad_row(self, problem: str, is_row: bool):
        if not self.skip_bad_rows:
            raise bad_row_error(problem, is_row)
        self.bad_rows += 1
        if self.bad_rows <= PROBLEMS_SHOWN:
            logger.warning(f"Left out a bad row: {problem}")
        if self.bad_rows == PROBLEMS_SHOWN:
            logger.warning("Further bad rows are counted, not named.")

    def _in_turn(self, files: Sequence[str]) -> Generator[str, None, None]:
        """One document of each file, then the next of each, with all files open."""
        with ExitStack() as stack:
            readers = [stack.enter_context(closing(self._read([file]))) for file in files]
            while readers:
                going_on = []
                for reader in readers:
                    for _, text in islice(reader, 1):
                        yield text
                        going_on.append(reader)
                readers = going_on

    def _in_growing_turns(self, files: Sequence[str]) -> Generator[str, None, None]:
        """One document of each file, then two, then four, with one file open.

        Reopening a file means skipping to its place; as the turns double, that costs about one extra pass in all.
        """
        turns, documents = [(file, [0, 0]) for file in files], 1
        while turns:
            going_on = []
            for file, position in turns:
                with closing(self._read([file], position)) as reader:
                    taken = 0
                    for place, text in islice(reader, documents):
                        yield text
                        position, taken = place, taken + 1
                if taken == documents:
                    going_on.append((file, position))
            turns, documents = going_on, 2 * documents


def open_stream(
    data_args: DataArguments,
    seed: int,
    split: str = "train",
    token: str | None = None,
    order_seed: int | None = None,
) -> DocumentStream:
    """Makes the stream of the documents that `data_args` describes.

    Sources are files, a folder of data files, or a dataset on the Hub that consists of such files (txt, json, jsonl,
    csv, tsv, parquet; compressed or not). Reads only names and sizes.

    Args:
        data_args: the source, the column, the limits.
        seed: of the choice of held-out documents.
        split: "train", which brings the stream of the other split as its `validation`, or "validation". Without
            validation text, `validation_split_percentage` of the documents are held out of every epoch.
        token: access token for the Hub.
        order_seed: of the order of the files; `seed` if None.

    Raises:
        ValueError: a source that cannot be streamed, a file that is missing or of an unknown kind.
        OSError: a file cannot be reached.
    """
    if split not in ("train", "validation"):
        raise GAUError(f"A stream is of the split train or validation, got {split!r}.")
    files = _source_files(data_args, token)
    if data_args.validation_file:
        files["validation"] = _absolute(find_files(data_args.validation_file))
    own = "validation" in files
    settings = {
        "column": data_args.text_column,
        "text_unit": data_args.text_unit,
        "seed": seed,
        "held_out_percentage": 0.0 if own else data_args.validation_split_percentage,
        "skip_bad_rows": data_args.skip_bad_rows,
        "token": token,
        "order_seed": order_seed,
    }
    validation = DocumentStream(
        tuple(sorted(files["validation" if own else "train"])),
        side="validation",
        max_documents=data_args.max_eval_samples,
        **settings,
    )
    if split == "validation":
        return validation
    stream = DocumentStream(tuple(sorted(files["train"])), validation=validation, **settings)
    stream._file_sizes()  # now and once, not in every worker
    return stream


def _source_files(data_args: DataArguments, token: str | None) -> dict[str, list[str]]:
    if data_args.train_file:
        return {"train": _absolute(find_files(data_args.train_file))}
    if data_args.dataset_path:
        path = dataset_folder(data_args)
        if is_saved_dataset(path):
            raise GAUError(
                f"--dataset_path {path} was written by save_to_disk and is memory-mapped, so it needs no streaming. "
                "Leave --streaming out."
            )
        files = {split: _absolute(found) for split, found in split_files(path).items()}
    elif data_args.dataset_name:
        files = _hub_files(data_args, token)
    else:
        raise GAUError(
            "The embedded corpus cannot be streamed: give --train_file, --dataset_path or --dataset_name, or leave "
            "--streaming out."
        )
    for file in (file for found in files.values() for file in found):
        kind_of(file)
    return files


def _hub_files(data_args: DataArguments, token: str | None) -> dict[str, list[str]]:
    name = data_args.dataset_name
    data_files = load_dataset_builder(name, data_args.dataset_config_name, token=token).config.data_files
    if not data_files:
        raise GAUError(
            f"--dataset_name {name} does not consist of files of text: txt, json, jsonl, csv, tsv and parquet files "
            "can be streamed. Leave --streaming out."
        )
    return choose_splits({str(split): list(found) for split, found in data_files.items()}, name)


def _absolute(files: Iterable[Path]) -> list[str]:
    # Keep links: in the Hub's cache only their names show the kind.
    return [str(file.absolute()) for file in files]


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:5]) + (f" and {len(files) - 5} more files" if len(files) > 5 else "")
