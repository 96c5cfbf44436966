"""What does the trainer cost? A step of pretraining against a bare loop with the same model and batches.

    python benchmarks/benchmark_overhead.py --preset gau-small --output benchmarks/results/overhead.csv

Both do the arithmetic of a step: forward under autocast, backward, clipping to a norm of 1, AdamW (fused), schedule.
The bare loop does nothing else; the trainer also reads and masks its batches, checks loss and gradient, counts, logs
every second step and moves its progress bar. They alternate in one process, `--rounds` times `--steps` steps each;
compared are medians of the step times within a round, the first step of each block left out.
"""

import argparse
import itertools
import statistics
import tempfile
import time

import numpy as np
import torch
from datasets import Dataset
from measurement import load_preset, make_parser, make_training_step, spread, timed, write_results
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM, TrainerCallback, get_scheduler

from modeling_gau.pretraining.trainer import MaskedLMTrainer, PretrainingArguments
from modeling_gau.runs.progress import ModelFlops
from modeling_gau.runs.tables import aligned
from modeling_gau.text.batches import BatchMaker, BatchShape, IndexedBatches, LengthPlan, Stage, TrainingLoader
from modeling_gau.text.masking import Masking
from modeling_gau.text.packing import TokenStream, make_pages
from modeling_gau.text.tokenization import train_tokenizer


class StepTimes(TrainerCallback):
    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--preset", default="gau-small")
    parser.add_argument("--rows", type=int, default=4, help="rows of a batch")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--packing", default="concat", choices=["concat", "documents"])
    parser.add_argument("--steps", type=int, default=6, help="steps of a block")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--float32", action="store_true", help="float32 instead of bfloat16")
    return parser.parse_args()


def make_tokenizer():
    words = ["".join(letters) for letters in np.random.default_rng(0).choice(list("abcdefgh"), (4000, 5))]
    return train_tokenizer(Dataset.from_dict({"text": [" ".join(words)] * 3}), "wordpiece", 1000)


def make_loader(args: argparse.Namespace, tokenizer, vocab_size: int) -> TrainingLoader:
    generator = np.random.default_rng(1)
    sizes = generator.integers(50, 1500, 1000)
    rows = [[*generator.integers(5, min(vocab_size, len(tokenizer)), size).tolist(), 3] for size in sizes]
    stream = TokenStream(Dataset.from_dict({"input_ids": rows}))
    masking = Masking(tokenizer)
    maker = BatchMaker(masking, args.length, apart=args.packing == "documents", fixed_shape=True, seed=0)
    plan = LengthPlan([Stage((args.length,), (1.0,))], args.steps, 0)
    shape = BatchShape(plan, args.rows * args.length, 1, 0, 1, args.steps)
    return TrainingLoader(IndexedBatches(make_pages(stream, args.length, args.packing), maker, shape))


def trainer_block(args: argparse.Namespace, model, tokenizer, folder: str) -> list[float]:
    training_args = PretrainingArguments(
        output_dir=folder, max_steps=args.steps, per_device_train_batch_size=args.rows, bf16=not args.float32,
        use_cpu=not torch.accelerator.is_available(), logging_steps=2, save_strategy="no", report_to="none",
        learning_rate=1e-4, weight_decay=0.01,
    )  # fmt: skip
    times = StepTimes()
    trainer = MaskedLMTrainer(
        model=model,
        args=training_args,
        tokenizer=tokenizer,
        loader=make_loader(args, tokenizer, model.config.vocab_size),
        flops=ModelFlops(model.config, 0.15),
        callbacks=[times],
    )
    trainer.train()
    return [after - before for before, after in itertools.pairwise(times.ends)]


def bare_block(args: argparse.Namespace, model, tokenizer) -> list[float]:
    device = next(model.parameters()).device
    batches = [
        {name: value.to(device) for name, value in batch.items()}
        for batch in make_loader(args, tokenizer, model.config.vocab_size)
    ]
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    scheduler = get_scheduler("linear", optimizer, 0, args.steps)
    step = make_training_step(model, optimizer, {}, bf16=not args.float32, max_norm=1.0)

    def whole_step(batch: dict) -> None:
        step(batch)
        scheduler.step()

    return [timed(lambda batch=batch: whole_step(batch), device.type) for batch in batches][1:]


def main() -> None:
    args = parse_arguments()
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(load_preset(args.preset, sparse_prediction=True))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trainer_block(args, model, tokenizer, folder)  # first calls allocate
        for number in tqdm(range(args.rounds), desc="Rounds"):
            blocks = {"bare": lambda: bare_block(args, model, tokenizer)}
            blocks["trainer"] = lambda: trainer_block(args, model, tokenizer, folder)
            order = sorted(blocks, reverse=bool(number % 2))
            seconds = {name: statistics.median(blocks[name]()) for name in order}
            rows.append({"round": number, **seconds, "overhead": seconds["trainer"] / seconds["bare"] - 1})
    known = {"preset": args.preset, "rows": args.rows, "length": args.length, "packing": args.packing}
    known["precision"] = "float32" if args.float32 else "bfloat16"
    print("\n" + ", ".join(f"{name} {value}" for name, value in known.items()))
    table = [["round", "bare (s)", "trainer (s)", "overhead"]]
    table += [[str(r["round"]), f"{r['bare']:.4f}", f"{r['trainer']:.4f}", f"{r['overhead']:.1%}"] for r in rows]
    print(aligned(table))
    print("median overhead {:.1%}, from {:.1%} to {:.1%}".format(*spread([row["overhead"] for row in rows])))
    write_results(args.output, [known | row for row in rows])


if __name__ == "__main__":
    main()
