"""How long does it take to convert a GAU-alpha of base size, and how much memory?

    python benchmarks/benchmark_conversion.py --output benchmarks/results/conversion.csv

It makes checkpoints with random weights (24 layers, 12000 tokens) in both public formats and converts each with the
command that a user would give, in a process of its own. It reports wall-clock seconds, with Python's start and
imports, and the peak resident memory.
"""

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measurement import ROOT, make_parser, write_results

from modeling_gau import GAUConfig
from modeling_gau.gau_alpha.tensorflow_reader import crc32c
from modeling_gau.gau_alpha.tensors import PORT_ENCODER, PORT_HEAD, encoder_tensors


sys.path.insert(0, str(ROOT / "tests" / "gau_alpha"))
import gau_alpha_reference as reference


SIZES = {"vocab_size": 12000, "hidden_size": 768, "intermediate_size": 1536, "attention_key_size": 128}
N_LAYERS = 24


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    machine = {"threads": str(torch.get_num_threads()), "machine": platform.machine(), "torch": torch.__version__}
    machine["date"] = datetime.date.today().isoformat()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_checkpoints(folder)
        for number in range(args.rounds):
            steps = {
                "PyTorch port": ["--input", folder / "port", "--output", folder / f"a{number}"],
                "TensorFlow": ["--input", folder / "tensorflow", "--output", folder / f"b{number}"],
                "to the port": ["--to-port", "--input", folder / f"a{number}", "--output", folder / f"c{number}"],
            }
            for name, arguments in steps.items():
                seconds, peak = measure([str(argument) for argument in arguments])
                rows.append({"conversion": name, "round": number, "seconds": seconds, "peak_gib": peak} | machine)
                print(f"{name:<14}{seconds:>8.1f} s{peak:>8.2f} GiB", flush=True)
    write_results(args.output, rows)


def write_checkpoints(folder: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = list(encoder_tensors(GAUConfig(**SIZES, num_hidden_layers=N_LAYERS)))
    weights = {tensor.port: generator.standard_normal(tensor.shape, np.float32) for tensor in tensors}
    state = {PORT_ENCODER + name: torch.from_numpy(value) for name, value in weights.items()}
    state[PORT_HEAD] = state[f"{PORT_ENCODER}embeddings.word_embeddings.weight"]
    changes = SIZES | {"num_hidden_layers": N_LAYERS}
    reference.write_port(folder / "port", state, embedding_size=SIZES["hidden_size"], **changes)
    variables = reference.tensorflow_variables(weights)
    reference.write_tensorflow(folder / "tensorflow", variables, checksum=crc32c, **changes)


def measure(arguments: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "modeling_gau.gau_alpha", *arguments], cwd=ROOT, stderr=subprocess.PIPE
    )
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(errors)
    return round(time.perf_counter() - start, 2), round(usage.ru_maxrss / 2**20, 3)  # Linux counts in KiB


if __name__ == "__main__":
    main()
