# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Padded batches as they are against the same ones without padding, and packed documents by a mask against end to end.

Both forms alternate in one process; times are medians. The rule that decides whether padding is taken out
(`LayerCost` in `modeling_gau/unpadding_gau.py`) stands on this table: "calls" is 0 where it leaves a batch as it is.

    python benchmarks/benchmark_unpadding.py --threads 1 2 --output unpadding.csv
"""

import statistics
from collections.abc import Callable

import torch
from measurement import make_parser, timed, write_results
from tqdm import tqdm

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.unpadding_gau import LayerCost, documents_end_to_end, same_document, without_padding


CPU = torch.device("cpu")
# Rows, and the lengths between which those of the sequences are drawn.
BATCHES = [(64, 6, 32), (32, 8, 64), (32, 16, 128), (16, 100, 128), (8, 64, 512), (4, 64, 2048)]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 192, 384, 768])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--float32", action="store_true", help="not bfloat16 by autocast")
    args = parser.parse_args()
    cases = [(threads, width, *batch) for threads in args.threads for width in args.widths for batch in BATCHES]
    rows = []
    for case in (progress := tqdm(cases)):
        rows.append(measure(*case, args.layers, args.repetitions, not args.float32))
        progress.write(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    write_results(args.output, rows)


def measure(
    threads: int, width: int, rows: int, shortest: int, longest: int, layers: int, repetitions: int, bfloat16: bool
) -> dict[str, object]:
    """Times of the padded form divided by those of the form without padding; above 1 the latter is faster."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    key_size = 64 if width < 384 else 128
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "attention_key_size": key_size}
    config = GAUConfig(vocab_size=1000, num_hidden_layers=layers, sparse_prediction=True, **sizes)
    model = GAUForMaskedLM(config)
    lengths = torch.randint(shortest, longest + 1, (rows,))
    lengths[0] = longest
    mask = (torch.arange(longest) < lengths[:, None]).long()
    ids = torch.randint(5, 1000, mask.shape)
    labels = ids.masked_fill((torch.rand(mask.shape) > 0.15) | (mask == 0), -100)
    batch = {"input_ids": ids, "labels": labels, "attention_mask": mask}

    # The same sequences as documents that fill rows of the longest one's length.
    flat = {"input_ids": ids[mask.bool()], "labels": labels[mask.bool()]}
    numbers = torch.arange(1, rows + 1).repeat_interleave(lengths)
    full = len(numbers) // longest * longest
    packed = {name: tensor[:full].view(-1, longest) for name, tensor in flat.items()}
    numbers = numbers[:full].view(-1, longest)
    by_mask = packed | {"attention_mask": same_document(numbers)}
    lengths = torch.tensor(documents_end_to_end(numbers).lengths)
    end_to_end = {name: tensor.view(1, -1) for name, tensor in packed.items()}
    end_to_end["cu_seq_lens_q"] = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))

    unpadded = without_padding(mask, LayerCost.of(config, CPU))
    result = {
        "threads": threads,
        "width": width,
        "rows": rows,
        "lengths": f"{shortest} to {longest}",
        "padding": round(1 - mask.float().mean().item(), 3),
        "calls": 0 if unpadded is None else len(unpadded.grouped(LayerCost.of(config, CPU))),
    }
    for kind, train in (("inference", False), ("training", True)):

        def step(inputs: dict, unpads: bool, train: bool = train) -> None:
            model.train(train).config.unpad_inputs = unpads
            with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = model(**inputs).loss
            if train:
                loss.backward()
                model.zero_grad()

        result[f"{kind}, padded"] = ratio(lambda: step(batch, False), lambda: step(batch, True), repetitions)
        result[f"{kind}, packed"] = ratio(lambda: step(by_mask, True), lambda: step(end_to_end, True), repetitions)
    return result


def ratio(first: Callable, second: Callable, repetitions: int) -> float:
    """Median over pairs of the first one's time divided by the second one's."""
    first(), second()
    return round(statistics.median(timed(first) / timed(second) for _ in range(repetitions)), 3)


if __name__ == "__main__":
    main()
