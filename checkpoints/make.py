# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Makes a checkpoint of this repository from the folder of a run, or renews its code.

    python checkpoints/make.py outputs/gau-tiny-en checkpoints/gau-tiny-en
    python checkpoints/make.py checkpoints/gau-tiny-en checkpoints/gau-tiny-en    # only the code

Weights are stored in half precision, which halves the download. `config.json` keeps float32, so `from_pretrained`
loads them as float32 and nobody fine-tunes in half precision by accident.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


CODE = sorted((Path(__file__).parents[1] / "modeling_gau").glob("*_gau.py"))
COPIED = ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with a model, as run_pretrain.py leaves it")
    parser.add_argument("target", type=Path, help="folder to write")
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    for path in CODE:
        shutil.copy(path, args.target)
    if args.source.resolve() != args.target.resolve():
        for name in COPIED:
            shutil.copy(args.source / name, args.target)
        tokenizer = json.loads((args.target / "tokenizer_config.json").read_text(encoding="utf-8"))
        kept = {key: value for key, value in tokenizer.items() if key not in ("is_local", "local_files_only")}
        (args.target / "tokenizer_config.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        weights = load_file(args.source / "model.safetensors")
        halves = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
        save_file(halves, args.target / "model.safetensors", metadata={"format": "pt"})
    size = sum(path.stat().st_size for path in args.target.iterdir())
    print(f"{args.target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
