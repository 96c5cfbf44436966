# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Training batches: lengths by step, rows by process, documents kept apart, and resuming."""

import copy
import json
import re
from collections import Counter
from dataclasses import asdict
from itertools import islice

import numpy as np
import pytest
import torch

from modeling_gau.text.batches import (
    BatchFacts,
    BatchMaker,
    BatchShape,
    IndexedBatches,
    LengthPlan,
    Stage,
    StreamedBatches,
    Totals,
    TrainingLoader,
    all_lengths,
    parse_length_schedule,
    sum_totals,
)
from modeling_gau.text.masking import IGNORED_LABEL, Masking
from modeling_gau.text.packing import FRAME, PackingReport
from modeling_gau.text.streaming import DocumentStream


# More workers than a small machine has cores are what the order of batches is tried with.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

PAD, CLS, SEP = 0, 2, 3


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer(f"w{number}" for number in range(5, 4000))


def make_maker(tokenizer, length=32, apart=False, fixed_shape=True, seed=0, probability=0.3) -> BatchMaker:
    return BatchMaker(Masking(tokenizer, probability), length, apart, fixed_shape, seed)


def full_pages(count: int, length: int = 32) -> list[list[np.ndarray]]:
    """Pages of one content each, no token twice."""
    width = length - FRAME
    return [[np.arange(5 + page * width, 5 + (page + 1) * width, dtype=np.int32)] for page in range(count)]


def packed_pages(count: int, length: int = 32, seed: int = 0) -> list[list[np.ndarray]]:
    """Pages of one to three contents that fill nearly all of it, no token twice."""
    generator, pages, token = np.random.default_rng(seed), [], 5
    for _ in range(count):
        parts, space = [], length
        while space > 2 * FRAME and len(parts) < 3:
            size = min(space - FRAME, int(generator.integers(5, 20)))
            parts.append(np.arange(token, token + size, dtype=np.int32))
            token, space = token + size, space - size - FRAME
        pages.append(parts)
    return pages


def make_plan(*lengths: int, steps: int = 100, seed: int = 0) -> LengthPlan:
    return LengthPlan([Stage(lengths, (1.0,) * len(lengths))], steps, seed)


def text_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tokens before masking."""
    return torch.where(batch["labels"] == IGNORED_LABEL, batch["input_ids"], batch["labels"])


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Lengths


def test_length_schedules_are_read():
    assert parse_length_schedule("512:0.9,2048:0.1") == (
        Stage((512,), (1.0,), 0.9),
        Stage((2048,), (1.0,), 0.1),
    )
    assert parse_length_schedule(" 128+512:0.75 , 2048:0.25:160000") == (
        Stage((128, 512), (1.0, 1.0), 0.75),
        Stage((2048,), (1.0,), 0.25, 160000.0),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("512", "'512' is not LENGTH:SHARE"),
        ("", "'' is not LENGTH:SHARE"),
        ("512:0.5,", "'' is not LENGTH:SHARE"),
        ("512:half", "'512:half' is not LENGTH:SHARE"),
        ("51.2:1", "'51.2:1' is not LENGTH:SHARE"),
        ("512:0.5:10000:1", "'512:0.5:10000:1' is not LENGTH:SHARE"),
        ("512:0.5,1024:0.4", "the shares add up to 0.9, not to 1"),
        ("512:1.5,1024:-0.5", "share of a stage must be positive, got -0.5"),
        ("512:nan", "share of a stage must be positive, got nan"),
        ("512:1:0.5", "RoPE base of a stage must be a finite number above 1, got 0.5"),
        ("512:1:inf", "RoPE base of a stage must be a finite number above 1, got inf"),
        ("2:1", "Lengths must be at least 3"),
        ("64+64:1", "The lengths of a stage must differ, got 64 64"),
        ("32:0.5,64:0.4,128:0.1", "--length_schedule: a stage gets none of the 3 steps"),
    ],
)
def test_bad_length_schedules_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LengthPlan(parse_length_schedule(text), 3, 0)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0), (1.0, 0.0), (1.0, -1.0)])
def test_bad_weights_are_refused(weights):
    message = "--mixed_length_weights needs one positive number for each of the 2 lengths 64 128"
    with pytest.raises(ValueError, match=message):
        Stage((64, 128), weights)


def test_mixed_lengths_have_their_shares():
    plan = LengthPlan([Stage((64, 128, 256), (1.0, 2.0, 5.0))], 4000, seed=3)
    counts = Counter(plan.length(step) for step in range(4000))
    for length, share in ((64, 1 / 8), (128, 2 / 8), (256, 5 / 8)):
        assert abs(counts[length] - 4000 * share) < 5 * (4000 * share * (1 - share)) ** 0.5
    other = LengthPlan(plan.stages, 4000, seed=4)
    assert any(plan.length(step) != other.length(step) for step in range(50))


def test_lengths_do_not_depend_on_the_duration_of_the_run():
    stages = parse_length_schedule("64+128+256:0.5,512:0.5")
    short, long = LengthPlan(stages, 100, 0), LengthPlan(stages, 1000, 0)
    assert [short.length(step) for step in range(50)] == [long.length(step) for step in range(50)]
    assert short.length(50) == 512 and long.length(50) != 512
    assert [long.length(step) for step in range(99, 40, -1)] == [long.length(step) for step in range(40, 100)][:0:-1]


@pytest.mark.parametrize("steps", [5, 7, 10, 333])
def test_stages_take_their_share_of_the_steps(steps):
    plan = LengthPlan(parse_length_schedule("32:0.5,64:0.3,128:0.2"), steps, 0)
    lengths = [plan.length(step) for step in range(steps)]
    assert lengths == sorted(lengths)
    for length, share in ((32, 0.5), (64, 0.3), (128, 0.2)):
        assert abs(lengths.count(length) - share * steps) <= 1
    assert plan.length(steps) == 128  # after the last step, too
    assert all_lengths(plan.stages) == [32, 64, 128]


def test_a_rope_base_holds_until_the_next_one():
    plan = LengthPlan(parse_length_schedule("64:0.2,128:0.2:20000,64:0.2,256:0.2:40000,64:0.2"), 10, 0)
    assert [plan.rope_theta(step) for step in range(10)] == [None] * 2 + [20000.0] * 4 + [40000.0] * 4


# Shapes


@pytest.mark.parametrize(
    ("lengths", "tokens", "message"),
    [
        (
            (48, 64, 40),
            64,
            "longest one, 64, so that all steps have equally many tokens; 40, 48 do not",
        ),
        ((24, 64), 64, "24 does not"),
        ((64,), 96, "A batch of one process has 96 positions .*a multiple of 64, the longest row"),
        ((32, 64), 32, "Make that a multiple of 64"),
    ],
)
def test_bad_shapes_are_refused(lengths, tokens, message):
    with pytest.raises(ValueError, match=message):
        BatchShape(make_plan(*lengths), tokens, 1, 0, 1, 10)


@pytest.mark.parametrize(("world", "accumulation"), [(1, 1), (1, 3), (2, 2), (3, 1)])
def test_processes_divide_the_pages_of_a_step(world, accumulation):
    shapes = [BatchShape(make_plan(32), 64, accumulation, rank, world, steps=5) for rank in range(world)]
    assert {shape.batches for shape in shapes} == {5 * accumulation}
    for step in range(5):
        first = [
            shape.first_page(batch)
            for batch in range(step * accumulation, (step + 1) * accumulation)
            for shape in shapes
        ]
        pages = [page + place for page in first for place in range(shapes[0].pages)]
        group = 2 * world * accumulation
        assert pages == list(range(step * group, (step + 1) * group))


def make_source(tokenizer, pages, *lengths, rank=0, world=1, tokens=128, accumulation=1, steps=20, **options):
    shape = BatchShape(make_plan(*lengths, steps=steps), tokens, accumulation, rank, world, steps)
    return IndexedBatches(pages, make_maker(tokenizer, max(lengths), **options), shape)


@pytest.mark.parametrize("apart", [False, True], ids=["concat", "documents"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_see_the_rows_of_one(tokenizer, apart, accumulation):
    pages, steps = packed_pages(21) if apart else full_pages(21), 12
    options = {"apart": apart, "accumulation": accumulation, "steps": steps}
    one = make_source(tokenizer, pages, 8, 16, 32, tokens=128, **options)
    two = [make_source(tokenizer, pages, 8, 16, 32, tokens=64, rank=rank, world=2, **options) for rank in (0, 1)]
    lengths = set()
    for number in range(steps * accumulation):
        parts = [source[number] for source in two]
        whole, facts = one[number], [part.pop("facts") for part in parts]
        expected = whole.pop("facts")
        together = {name: torch.cat([part[name] for part in parts]) for name in whole}
        assert equal(together, whole)
        assert sum((part.totals for part in facts), Totals()) == expected.totals
        # Processes must agree on where an epoch ends: what is done then, they do together.
        assert {part.epoch for part in facts} == {expected.epoch}
        rows, width = whole["input_ids"].shape
        assert width == expected.length and (apart or rows == 128 // width)  # full pages fill every row
        assert width == one.shape.plan.length(number // accumulation)
        lengths.add(expected.length)
    assert lengths == {8, 16, 32}


def test_an_epoch_has_every_page_once(tokenizer):
    pages = full_pages(24)
    source = make_source(tokenizer, pages, 32, tokens=64, accumulation=2, steps=18)
    batches = [source[number] for number in range(len(source))]
    first_tokens = [row[1].item() for batch in batches for row in text_of(batch)]
    expected = sorted(int(page[0][0]) for page in pages)
    epochs = [first_tokens[start : start + 24] for start in (0, 24, 48)]
    assert [sorted(epoch) for epoch in epochs] == [expected] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [batch["facts"].epoch for batch in batches] == [(number + 1) / 12 for number in range(36)]
    # The same page has other masks in another epoch.
    labels = [
        {
            text[1].item(): row
            for batch in batches[part : part + 12]
            for text, row in zip(text_of(batch), batch["labels"], strict=True)
        }
        for part in (0, 12)
    ]
    assert sum(not torch.equal(labels[0][page], labels[1][page]) for page in expected) == 24


def test_a_batch_may_span_epochs(tokenizer):
    source = make_source(tokenizer, full_pages(5), 32, tokens=96, steps=10)
    seen = [row[1].item() for number in range(10) for row in text_of(source[number])]
    for epoch in range(6):
        assert len(set(seen[epoch * 5 : epoch * 5 + 5])) == 5


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("probability", 0.5)])
def test_batches_follow_from_number_and_seed(tokenizer, name, value):
    sources = [make_source(tokenizer, full_pages(20), 32, **options) for options in ({}, {"seed": 0}, {name: value})]
    sources[0][0], sources[0][9]  # in any order
    batches = [source[3] for source in sources]
    facts = [batch.pop("facts") for batch in batches]
    assert equal(batches[0], batches[1]) and facts[0] == facts[1]
    assert not torch.equal(batches[0]["labels"], batches[2]["labels"])


# Rows


def test_rows_of_a_batch(tokenizer):
    contents = [[np.arange(10, 20), np.arange(30, 35)], [np.arange(40, 52)]]
    pages = [((number,), [part.astype(np.int32) for part in page]) for number, page in enumerate(contents)]
    batch = make_maker(tokenizer, 24, apart=True)(pages, BatchFacts(0, 24, 0.0))
    facts = batch.pop("facts")
    first = [CLS, *range(10, 20), SEP, CLS, *range(30, 35), SEP]
    second = [CLS, *range(40, 52), SEP]
    assert text_of(batch).tolist() == [first + [PAD] * 5, second + [PAD] * 10]
    assert batch["position_ids"].tolist() == [[*range(12), *range(7), *[0] * 5], [*range(14), *[0] * 10]]
    assert "attention_mask" not in batch  # one statement of which tokens see each other
    assert batch["document_ids"].tolist() == [[1] * 12 + [2] * 7 + [0] * 5, [1] * 14 + [0] * 10]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    special = torch.isin(text_of(batch), torch.tensor([PAD, CLS, SEP]))
    assert (batch["labels"][special] == IGNORED_LABEL).all() and (batch["labels"] != IGNORED_LABEL).any()
    assert facts.totals == Totals(48, 33, 0, {24: 48})


@pytest.mark.parametrize("fixed_shape", [False, True])
def test_padding_goes_to_the_longest_row_or_to_the_length(tokenizer, fixed_shape):
    pages = [((number,), [np.arange(10, 10 + size, dtype=np.int32)]) for number, size in enumerate((4, 9, 2))]
    batch = make_maker(tokenizer, 24, fixed_shape=fixed_shape)(pages, BatchFacts(0, 24, 0.0))
    # To a multiple of 8, for the sake of matrix products.
    assert batch["input_ids"].shape == (3, 24 if fixed_shape else 16)
    assert batch["attention_mask"].sum(dim=1).tolist() == [6, 11, 4]
    assert (batch["facts"].totals.tokens, batch["facts"].totals.positions) == (21, batch["input_ids"].numel())
    assert "document_ids" not in batch
    pages = [((number,), page) for number, page in enumerate(full_pages(3, 24))]
    assert make_maker(tokenizer, 24)(pages, BatchFacts(0, 24, 0.0)).keys() == {"input_ids", "labels", "facts"}


def test_totals_are_those_of_the_batches(tokenizer):
    source = make_source(tokenizer, packed_pages(30), 8, 32, apart=True, steps=12)
    loader = TrainingLoader(source)
    batches = list(loader)
    totals, by_length = loader.totals, Counter()
    for batch in batches:
        by_length[batch["input_ids"].shape[1]] += batch["input_ids"].numel()
        assert "facts" not in batch
    assert len(batches) == len(loader) == 12 and set(by_length) == {8, 32}
    assert totals.positions_by_length == by_length and totals.positions == by_length.total()
    assert totals.tokens == sum(int((batch["document_ids"] > 0).sum()) for batch in batches)
    there = sum(int((text_of(batch) >= 5).sum()) for batch in batches)
    pages = [source.pages[source._page(number)] for number in range(48)]
    assert totals.left_out == sum(len(part) for page in pages for part in page) - there > 0
    assert loader.epoch == 48 / 30


def test_totals_add_up_also_when_they_were_json():
    one = Totals(10, 9, 1, {8: 4, 16: 6}, PackingReport(pages=3, bad_rows=2))
    other = Totals(positions=5, tokens=5, positions_by_length={16: 5})
    summed = sum_totals(json.loads(json.dumps([asdict(part) for part in (one, other)])))
    assert summed.positions_by_length == {8: 4, 16: 11}
    assert (summed.positions, summed.tokens, summed.left_out) == (15, 14, 1)
    assert (summed.packing.pages, summed.packing.bad_rows) == (3, 2)


# Documents kept apart


@pytest.mark.parametrize(
    ("normalization", "implementation"),
    [
        ("softmax_plus", "eager"),
        ("softmax_plus", "sdpa"),
        ("squared_relu", "eager"),
        ("squared_relu", "gau_blocked"),
        ("normalized_squared_relu", "eager"),
    ],
)
def test_documents_of_a_row_are_as_each_alone(make_model, make_tokenizer, normalization, implementation):
    fields = {"attention_normalization": normalization, "reference_length": 20}
    model, generator = make_model(backend=implementation, **fields).double(), np.random.default_rng(0)
    contents = [[generator.integers(5, 60, size, dtype=np.int32) for size in row] for row in ([17, 30, 46], [90])]
    maker = make_maker(make_tokenizer(f"w{number}" for number in range(5, 60)), 104, apart=True)
    batch = maker([((number,), page) for number, page in enumerate(contents)], BatchFacts(0, 104, 0.0))
    ids, documents = batch["input_ids"], batch["document_ids"]
    packed = {"input_ids": ids, "position_ids": batch["position_ids"]}
    together = model(**packed, document_ids=documents).logits[documents > 0]
    places = [documents[row] == number for row, number in ((0, 1), (0, 2), (0, 3), (1, 1))]
    assert [int(place.sum()) for place in places] == [19, 32, 48, 92]
    alone = [model(input_ids=ids[row, place][None]) for row, place in zip((0, 0, 0, 1), places, strict=True)]
    alone = torch.cat([outputs.logits[0] for outputs in alone])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    weights = torch.randn(alone.shape, dtype=alone.dtype, generator=torch.Generator().manual_seed(0))
    gradients = []
    for logits in (together, alone):
        model.zero_grad()
        (logits * weights).sum().backward()
        used = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        gradients.append(copy.deepcopy(used))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)
    # Without the mask, or with the row's n in place of the document's, it would have shown.
    seeing = model(**packed, attention_mask=(documents > 0).long()).logits[documents > 0]
    assert (seeing - together)[:99].abs().max() > 0.1
    if normalization != "normalized_squared_relu":
        model.config.fixed_n = 99
        fixed = model(**packed, document_ids=documents).logits[documents > 0]
        assert (fixed - together)[:99].abs().max() > 0.01


# Resuming


def state_of(loader: TrainingLoader) -> list[dict]:
    """What `resume` takes, as a checkpoint keeps it."""
    return json.loads(json.dumps([loader.state(), asdict(loader.totals)]))


def indexed_loader(tokenizer, workers=0) -> TrainingLoader:
    source = make_source(tokenizer, packed_pages(20), 8, 16, 32, apart=True, steps=10, accumulation=2)
    return TrainingLoader(source, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 3])
def test_an_indexed_run_resumes_at_any_batch(tokenizer, workers):
    loader = indexed_loader(tokenizer)
    states, whole = [state_of(loader)], []
    for batch in loader:
        whole.append(batch)
        states.append(state_of(loader))
    assert not any(state for state, _ in states)
    for first in range(1, 20) if workers == 0 else (0, 1, 8, 11):
        resumed = indexed_loader(tokenizer, workers)
        resumed.resume(first, *states[first])
        batches = list(resumed)
        assert len(batches) == 20 - first and all(map(equal, batches, whole[first:]))
        assert resumed.totals == loader.totals and resumed.epoch == loader.epoch and len(resumed) == 20


def test_the_loader_leaves_the_random_state_alone(tokenizer):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for workers in (0, 1):
        next(iter(indexed_loader(tokenizer, workers)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, ...]:
    """Five files of 200 documents that hold the numbers from 5 to 3004. Each is written with 60 characters: a section
    is never shorter than 65,536 characters, and there are several to an epoch."""
    folder, paths = tmp_path_factory.mktemp("stream"), []
    borders = np.sort(np.random.default_rng(0).choice(np.arange(6, 3005), 199, replace=False))
    documents = np.split(np.arange(5, 3005), borders - 5)
    for file in range(5):
        texts = [
            " ".join(f"{number:060}" for number in document) for document in documents[file * 40 : file * 40 + 40]
        ]
        lines = [json.dumps({"text": text}) for text in texts]
        if file == 2:
            lines.insert(7, "not json")
        paths.append(folder / f"{file}.jsonl")
        paths[-1].write_text("\n".join(lines) + "\n")
    return tuple(map(str, paths))


def encode(texts: list[str]) -> list[np.ndarray]:
    return [np.array([int(word) for word in text.split()], np.int32) for text in texts]


def streamed_loader(
    tokenizer, files, workers=0, packing="documents", rank=0, world=1, steps=30, tokens=512, lengths=(16, 32)
):
    shape = BatchShape(make_plan(*lengths, steps=steps), tokens, 1, rank, world, steps)
    source = StreamedBatches(
        DocumentStream(files, skip_bad_rows=True),
        encode,
        make_maker(tokenizer, 32, apart=packing == "documents"),
        shape,
        packing,
        "split",
        section_tokens=1,
    )
    return TrainingLoader(source, num_workers=workers)


@pytest.mark.parametrize("packing", ["concat", "documents"])
def test_a_stream_passes_over_all_documents(tokenizer, files, packing):
    # 3000 tokens and their frames in pages of 32 are some 107 pages, and a few that are short at the ends of sections.
    loader = streamed_loader(tokenizer, files, packing=packing, tokens=32, steps=300, lengths=(32,))
    epochs, sections = [], set()
    for batch in loader:
        place = loader.facts.place
        sections.add((place["epoch"], place["section"]))
        epochs += [(place["epoch"], token) for token in text_of(batch).flatten().tolist() if token >= 5]
    for epoch in (0, 1):
        assert Counter(token for number, token in epochs if number == epoch) == Counter(range(5, 3005))
        assert len({section for number, section in sections if number == epoch}) >= 3
    first, second = ([token for number, token in epochs if number == epoch] for epoch in (0, 1))
    assert first != second
    # The report is that of the sections begun; the bad row is met once in each epoch.
    report = loader.totals.packing
    assert report.bad_rows in (2, 3)
    assert 9000 >= report.tokens >= sum(token >= 5 for _, token in epochs) > 6000
    assert 300 <= report.pages < 300 + 107 and report.positions == 32 * report.pages


@pytest.mark.parametrize(("workers", "world"), [(0, 2), (3, 1), (2, 2)])
def test_readers_of_a_stream_share_the_documents(tokenizer, files, workers, world):
    seen = Counter()
    for rank in range(world):
        loader = streamed_loader(
            tokenizer, files, workers, rank=rank, world=world, steps=300, tokens=32, lengths=(32,)
        )
        epochs = {}
        for batch in loader:
            facts = loader.facts
            epochs.setdefault(facts.worker, set()).add(facts.epoch)
            if facts.epoch == 0:
                seen.update(token for token in text_of(batch).flatten().tolist() if token >= 5)
        assert set(epochs) == set(range(max(workers, 1))) and all({0, 1} <= numbers for numbers in epochs.values())
    assert seen == Counter(range(5, 3005))


@pytest.mark.parametrize("packing", ["concat", "documents"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_streamed_run_resumes_at_any_batch(tokenizer, files, workers, packing):
    loader, whole, states = streamed_loader(tokenizer, files, workers, packing), [], []
    for batch in loader:
        whole.append(batch)
        states.append(state_of(loader))
    assert len(whole) == 30 and loader.epoch > 2 - workers / 2
    # In the middle of a section, of a round of the workers, and at the end; all of them where that costs no processes.
    for first in range(1, 31) if workers == 0 else (1, 2, 3, 11, 29):
        resumed = streamed_loader(tokenizer, files, workers, packing)
        resumed.resume(first, *states[first - 1])
        batches = list(islice(resumed, 8 if first < 20 else None))
        assert all(map(equal, batches, whole[first:])) and len(batches) >= min(8, 30 - first)
        assert state_of(resumed) == states[first + len(batches) - 1]


def test_a_stream_resumes_twice(tokenizer, files):
    loader = streamed_loader(tokenizer, files)
    whole, first, state, batches = list(loader), 0, None, []
    for stop in (4, 11, 30):
        part = streamed_loader(tokenizer, files)
        if first:
            part.resume(first, *state)
        batches += islice(part, stop - first)
        first, state = stop, state_of(part)
    assert len(batches) == 30 and all(map(equal, batches, whole))
    assert state == state_of(loader)


@pytest.mark.parametrize(
    ("options", "there"),
    [({"workers": 2}, "1 process.* of 0 worker"), ({"world": 2}, "1 process.* of 0 worker"), (None, "no place in it")],
)
def test_a_stream_refuses_to_resume_with_other_readers(tokenizer, files, options, there):
    loader = streamed_loader(tokenizer, files)
    next(iter(loader))
    state = loader.state() if options else None
    resumed = streamed_loader(tokenizer, files, **options or {})
    with pytest.raises(
        ValueError, match=f"stream cannot be resumed: .*the checkpoint has {there}.*leave --streaming out"
    ):
        resumed.resume(1, state, None)
    with pytest.raises(ValueError, match="no place in it"):
        streamed_loader(tokenizer, files).resume(1, {}, None)  # of a run with an index


@pytest.mark.parametrize("workers", [0, 2])
def test_more_readers_than_documents_are_refused(tokenizer, tmp_path, workers):
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": " ".join(map(str, range(5, 90)))}) + "\n")
    loader = streamed_loader(tokenizer, (str(tmp_path / "one.jsonl"),), workers, rank=1, world=2, tokens=64)
    with pytest.raises(ValueError, match=r"of the stream gets no documents.*Lower --dataloader_num_workers"):
        list(loader)


def test_pages_of_a_section_are_shuffled(tokenizer, files):
    loader = streamed_loader(tokenizer, files, packing="concat", steps=3)
    tokens = torch.cat([text_of(batch)[:, 1] for batch in loader])
    assert (tokens.diff() < 0).sum() > 10
    other = streamed_loader(tokenizer, files, packing="concat", steps=3)
    other.source.maker.seed = 1
    assert not torch.equal(torch.cat([text_of(batch)[:, 1] for batch in other]), tokens)
