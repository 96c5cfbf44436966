r"""Does a GAU need warm-up? Short runs of a deep, narrow encoder with and without it (kexue.fm/archives/8990).

    python benchmarks/benchmark_warmup.py --train_file "corpus/train-*.jsonl" \
        --validation_file corpus/validation.jsonl --work_dir runs/warmup --output benchmarks/results/warmup.csv

The article derives an initialisation, standard deviation layers^(-1/3) / sqrt(fan-in), with which a deep GAU with
normalization after the residual is to train without warm-up. Compared with the usual 0.02, for each learning rate and
attention normalization: the same data, order, masks and steps, a constant learning rate after the warm-up, loss on the
same masked validation tokens at the end. Finished cells are not run again.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path

from measurement import make_parser, write_results
from tqdm.auto import tqdm

import run_pretrain
from modeling_gau.runs.tables import aligned
from modeling_gau.runs.trainer import NonFiniteError


INITIALISATIONS = {"layers^(-1/3)": "null", "0.02": "0.02"}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--train_file", nargs="+", required=True)
    parser.add_argument("--validation_file", nargs="+", required=True)
    parser.add_argument("--work_dir", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--normalizations", nargs="+", default=["squared_relu", "softmax_plus"])
    parser.add_argument("--learning_rates", nargs="+", default=["1e-3", "4e-3"])
    parser.add_argument("--warmup_shares", nargs="+", type=float, default=[0.0, 0.2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--bf16", default="true", choices=["true", "false"])
    return parser.parse_args()


def folder_of(args: argparse.Namespace, cell: dict) -> Path:
    return args.work_dir / "-".join(str(value).replace("/", "_") for value in cell.values())


def run(args: argparse.Namespace, tokenizer: Path, cell: dict) -> dict:
    folder = folder_of(args, cell)
    result = folder / "cell.json"
    if not result.is_file():
        config = (
            f"num_hidden_layers={args.layers},hidden_size=128,intermediate_size=256,attention_key_size=64,"
            f"hidden_dropout_prob=0.0,initializer_range={INITIALISATIONS[cell['initialisation']]}"
        )
        argv = [
            "--config_name", "gau-tiny", "--config_overrides", config, "--overwrite_output_dir",
            "--train_file", *args.train_file, "--validation_file", *args.validation_file,
            "--output_dir", folder, "--max_seq_length", 128, "--eval_lengths", 128, "--max_eval_tokens", 30_000,
            "--attention_normalization", cell["normalization"], "--vocab_size", 4096,
            "--max_steps", args.steps, "--warmup_steps", round(cell["warmup"] * args.steps),
            "--lr_scheduler_type", "constant_with_warmup", "--learning_rate", cell["learning_rate"],
            "--per_device_train_batch_size", 16, "--per_device_eval_batch_size", 64, "--weight_decay", 0.01,
            "--adam_beta2", 0.98, "--logging_steps", 10, "--save_strategy", "no", "--seed", cell["seed"],
            "--bf16", args.bf16, "--disable_tqdm", "true",
        ]  # fmt: skip
        if (tokenizer / "tokenizer.json").is_file():
            argv += ["--tokenizer_name", tokenizer]
        try:
            metrics = run_pretrain.main(list(map(str, argv)))
            outcome = {"loss": metrics["eval_loss"], "accuracy": metrics["eval_accuracy"], "outcome": "trained"}
        except NonFiniteError as error:
            outcome = {"loss": None, "accuracy": None, "outcome": str(error).split(":")[0]}
        folder.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(outcome))
    return cell | json.loads(result.read_text())


def main() -> None:
    args = parse_arguments()
    names = ("normalization", "initialisation", "learning_rate", "warmup", "seed")
    cells = itertools.product(
        args.normalizations, INITIALISATIONS, args.learning_rates, args.warmup_shares, args.seeds
    )
    cells = [dict(zip(names, values, strict=True)) for values in cells]
    # All cells share the vocabulary that the first one trains.
    rows = [run(args, folder_of(args, cells[0]), cell) for cell in tqdm(cells, desc="Cells")]
    table = [["normalization", "initialisation", "rate", "warm-up", "loss", "from", "to"]]
    for key, group in itertools.groupby(rows, key=lambda row: [row[name] for name in names[:4]]):
        losses = [row["loss"] if row["loss"] is not None else float("inf") for row in group]
        normalization, initialisation, rate, warmup = key
        numbers = (statistics.mean(losses), min(losses), max(losses))
        table.append([normalization, initialisation, str(rate), f"{warmup:.0%}", *(f"{n:.4f}" for n in numbers)])
    print(f"\n{aligned(table, left=2)}")
    write_results(args.output, rows)


if __name__ == "__main__":
    main()
