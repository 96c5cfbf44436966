"""How long does a pretraining run take, and does communication hold it up?

    python benchmarks/estimate_time.py                                  # gau-base on 100 billion tokens, assumed speed
    python benchmarks/estimate_time.py --tokens_per_second 250000       # with the speed measured on one of your GPUs

Arithmetic, nothing is run. Floating-point operations follow from the shapes of the matrix products; times follow from
them and an assumed utilisation, the share of a GPU's peak that a run reaches, unless measured tokens per second are
given. `docs/scaling.md` explains the formulas.
"""

import argparse

import torch
from measurement import load_preset, make_parser

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.runs.tables import aligned, markdown


def forward_products(config: GAUConfig, length: int, mlm_probability: float) -> dict[str, float]:
    """Multiply-adds of the forward pass for one token of a sequence of `length`, by where they are spent.

    A layer multiplies by W_i, `d x (2e + s)`, and W_o, `e x d`; scores take `length * s` and the weighted values
    `length * e`. The head sees the labelled tokens only.
    """
    hidden, value, key = config.hidden_size, config.intermediate_size, config.attention_key_size
    return {
        "matrices": config.num_hidden_layers * hidden * (3 * value + key),
        "attention": config.num_hidden_layers * length * (key + value),
        "head": mlm_probability * hidden * config.vocab_size,
    }


def training_flops(config: GAUConfig, length: int, mlm_probability: float = 0.15) -> float:
    """Floating-point operations of a training step for one token: two for a multiply-add, and a backward pass of twice
    the forward pass. What checkpointing or the blocked attention compute again is not counted: it is no progress."""
    return 6 * sum(forward_products(config, length, mlm_probability).values())


def count_parameters(config: GAUConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GAUForMaskedLM(config).parameters())


def run_hours(tokens: float, gpus: int, tokens_per_second: float) -> float:
    """Hours of a run whose GPUs make `tokens_per_second` each."""
    return tokens / (gpus * tokens_per_second) / 3600


def step_communication(parameters: int, gpus: int, strategy: str) -> float:
    """Bytes that each GPU sends (and receives) in a step.

    DDP sums float32 gradients around a ring: every byte goes around twice. FSDP2 gathers bfloat16 weights for the
    forward and again for the backward pass, and scatters the sums of float32 gradients.
    """
    width = {"ddp": 4 + 4, "fsdp2": 2 + 2 + 4}[strategy]
    return width * parameters * (gpus - 1) / gpus


def show(title: str, header: list[str], rows: list[list[str]], as_markdown: bool) -> None:
    table = [header, *rows]
    print(f"\n{title}\n\n{markdown(table) if as_markdown else aligned(table)}")


def flops_table(args: argparse.Namespace) -> None:
    rows = []
    for preset in args.presets:
        config = load_preset(preset)
        for length in args.lengths:
            products = forward_products(config, length, args.mlm_probability)
            share = products["attention"] / sum(products.values())
            flops = training_flops(config, length, args.mlm_probability)
            rows.append([preset, str(length), f"{flops / 1e6:,.0f}", f"{share:.0%}"])
    header = ["preset", "length", "MFLOP a token", "in attention"]
    show("Training operations a token (computed)", header, rows, args.markdown)


def speeds(args: argparse.Namespace, length: int) -> list[tuple[str, float]]:
    """Tokens per second of one GPU: as given, or for each assumed utilisation."""
    config = load_preset(args.preset)
    flops = training_flops(config, length, args.mlm_probability)
    if args.tokens_per_second:
        return [(f"as given, {args.tokens_per_second * flops / args.peak:.0%}", args.tokens_per_second)]
    return [(f"{share:.0%}", share * args.peak / flops) for share in args.utilisation]


def time_table(args: argparse.Namespace) -> None:
    rows = []
    for length in args.lengths:
        for share, speed in speeds(args, length):
            hours = [f"{run_hours(args.tokens, gpus, speed):,.1f}" for gpus in args.gpus]
            rows.append([str(length), share, f"{speed:,.0f}", *hours])
    header = ["length", "of peak", "tokens/s a GPU", *(f"hours on {gpus} GPUs" for gpus in args.gpus)]
    how = "from tokens per second as given" if args.tokens_per_second else "estimated, utilisation assumed"
    show(f"{args.preset}, {args.tokens:.3g} tokens ({how})", header, rows, args.markdown)


def communication_table(args: argparse.Namespace) -> None:
    parameters = count_parameters(load_preset(args.preset))
    share, speed = speeds(args, args.lengths[0])[-1]
    rows = []
    for gpus in args.gpus:
        # Within a machine over NVLink; a ring through several machines is as fast as its slowest link.
        bandwidth = args.machine_bandwidth if gpus <= args.gpus_per_machine else args.network_bandwidth
        send = step_communication(parameters, gpus, "ddp")
        for tokens in args.tokens_per_step:
            compute = tokens / gpus / speed
            rows.append([str(gpus), f"{tokens:,}", f"{tokens // gpus:,}", f"{1000 * compute:.1f}", f"{send / 1e9:.2f}",
                         f"{1000 * send / bandwidth:.1f}", f"{send / bandwidth / compute:.0%}"])  # fmt: skip
    header = ["GPUs", "tokens a step", "tokens a GPU", "compute ms", "GB sent a GPU", "sending ms", "share"]
    title = f"A step of {args.preset} at {args.lengths[0]} tokens, {share} of peak (estimated)"
    show(title, header, rows, args.markdown)


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, output=None)
    parser.add_argument("--presets", nargs="+", default=["gau-tiny", "gau-small", "gau-base", "gau-alpha-base"])
    parser.add_argument("--preset", default="gau-base", help="the one whose run is timed")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--tokens", type=float, default=100e9)
    parser.add_argument("--mlm_probability", type=float, default=0.15)
    parser.add_argument("--utilisation", type=float, nargs="+", default=[0.2, 0.3, 0.4])
    parser.add_argument(
        "--peak", type=float, default=989e12, help="FLOP/s of a GPU (default: H100 SXM, dense bfloat16)"
    )
    parser.add_argument(
        "--tokens_per_second", type=float, help="of one GPU, measured; takes the place of --utilisation"
    )
    parser.add_argument("--tokens_per_step", type=int, nargs="+", default=[2**19, 2**20, 2**22])
    parser.add_argument("--gpus_per_machine", type=int, default=8)
    parser.add_argument("--machine_bandwidth", type=float, default=450e9, help="bytes/s between GPUs of a machine")
    parser.add_argument("--network_bandwidth", type=float, default=50e9, help="bytes/s of a GPU to other machines")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    flops_table(args)
    time_table(args)
    communication_table(args)


if __name__ == "__main__":
    main()
