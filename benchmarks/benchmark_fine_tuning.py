"""How fast is fine-tuning with a GAU against a BERT of equal size, by run_glue.py itself?

    python benchmarks/benchmark_fine_tuning.py --train_file sst2/train.jsonl --tokenizer_name <checkpoint> \
        --output benchmarks/results/fine-tuning-speed.csv

Both start from random weights, which cost as much as trained ones, with the vocabulary of the tokenizer. They take
turns in one process, `--rounds` times `--steps` steps each, with the same rows, batches and arguments. The table
compares the seconds of training that run_glue.py reports, pair by pair, and the share of matrix products in a step:
two models with equal numbers of parameters have equally many of these.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import torch
from measurement import load_preset, make_parser, make_training_step, spread, write_results
from torch.profiler import ProfilerActivity, profile
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

import run_glue
from modeling_gau.runs.tables import aligned


# Two units do the work of one Transformer layer of the same width, and have about as many parameters.
BERT_OF = {
    "gau-tiny": {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 768},
    "gau-small": {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 2048},
    "gau-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--train_file", required=True, help="rows with the columns of SST-2")
    parser.add_argument("--tokenizer_name", required=True)
    parser.add_argument("--preset", default="gau-small", choices=list(BERT_OF))
    parser.add_argument("--steps", type=int, default=100, help="steps of a block")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_seq_length", type=int, default=64)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        configs = make_configs(args, Path(folder))
        fine_tune(args, configs["bert"], Path(folder) / "first", steps=3)  # tokenises, and first calls allocate
        rounds = []
        for number in tqdm(range(args.rounds), desc="Rounds"):
            order = sorted(configs, reverse=bool(number % 2))
            seconds = {name: fine_tune(args, configs[name], Path(folder) / f"{name}-{number}") for name in order}
            rounds.append({"round": number, **seconds, "ratio": seconds["bert"] / seconds["gau"]})
        shares = {name: products(args, config) for name, config in configs.items()}
    rows = [["round", "GAU (s)", "BERT (s)", "BERT / GAU"]]
    rows += [[str(r["round"]), f"{r['gau']:.1f}", f"{r['bert']:.1f}", f"{r['ratio']:.3f}"] for r in rounds]
    print(
        f"\n{args.preset}, {args.steps} steps of {args.batch_size} rows in a block, {torch.get_num_threads()} threads"
    )
    print(aligned(rows))
    print("median ratio {:.3f}, from {:.3f} to {:.3f}".format(*spread([row["ratio"] for row in rounds])))
    for name, (parameters, share) in shares.items():
        print(f"{name}: {parameters:,} parameters, {share:.0%} of a step are matrix products")
    known = {"preset": args.preset, "steps": args.steps, "batch_size": args.batch_size, "bf16": int(args.bf16)}
    write_results(args.output, [known | row for row in rounds])


def make_configs(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    vocab_size = len(AutoTokenizer.from_pretrained(args.tokenizer_name))
    load_preset(args.preset, vocab_size=vocab_size).save_pretrained(folder / "gau")
    BertConfig(vocab_size=vocab_size, **BERT_OF[args.preset]).save_pretrained(folder / "bert")
    return {name: str(folder / name) for name in ("gau", "bert")}


def fine_tune(args: argparse.Namespace, config: str, output_dir: Path, steps: int | None = None) -> float:
    """Seconds of training."""
    command = ["--do_train", "--task_name", "sst2", "--train_file", args.train_file, "--config_name", config]
    command += ["--tokenizer_name", args.tokenizer_name, "--output_dir", str(output_dir), "--use_cpu"]
    command += ["--max_steps", str(steps or args.steps), "--max_seq_length", str(args.max_seq_length)]
    command += ["--per_device_train_batch_size", str(args.batch_size), "--bf16", str(args.bf16)]
    command += ["--train_sampling_strategy", "group_by_length", "--save_strategy", "no", "--disable_tqdm", "true"]
    with contextlib.redirect_stdout(io.StringIO()):
        return run_glue.main(command)["train_runtime"]


def products(args: argparse.Namespace, config: str) -> tuple[int, float]:
    """Parameters, and the share of matrix products in the time of a step at a length usual in SST-2."""
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(config))
    ids = torch.randint(5, model.config.vocab_size, (args.batch_size, 14))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
    step = make_training_step(model, torch.optim.AdamW(model.parameters(), fused=True), inputs, bf16=False)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(5):
            step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    own = sum(times.get(f"aten::{name}", 0) for name in ("mm", "addmm", "bmm", "baddbmm"))
    return model.num_parameters(), own / sum(times.values())


if __name__ == "__main__":
    main()
