# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Makes `port/`: tiny checkpoints of GAU-alpha's PyTorch port, saved by the port, and what it computes with them.

    pip install "gau_alpha==0.0.3" "transformers==4.40.2"
    python tests/gau_alpha/data/make_port.py

That is JunnYu/GAU-alpha-pytorch, which does not run on transformers 5.
"""

import json
from pathlib import Path

import numpy as np
import torch
from gau_alpha import GAUAlphaConfig, GAUAlphaForMaskedLM, GAUAlphaTokenizer


DIRECTORY = Path(__file__).with_name("port")
VOCABULARY = (DIRECTORY.with_name("tensorflow") / "vocab.txt").read_text(encoding="utf-8")
LENGTHS = (20, 7, 1)
TEXTS = (("北京是中国的首都。",), ("北京，是 中国的[MASK]都", "一座歷史悠久 ABC 的城市。"))
VARIANTS = {
    "softmax_plus": {},
    "softmax-biases": {"normalization": "softmax", "use_bias": True},
    "squared_relu": {"normalization": "squared_relu"},
    "unscaled": {"attention_scale": False},
}


def main() -> None:
    torch.manual_seed(0)
    tokens = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        tokens[row, :length] = torch.randint(1, len(VOCABULARY.split()), (length,))
    types = torch.randint(0, 2, tokens.shape)
    for name, changes in VARIANTS.items():
        directory = DIRECTORY / name
        sizes = {
            "vocab_size": len(VOCABULARY.split()),
            "hidden_size": 16,
            "intermediate_size": 32,
            "attention_key_size": 12,
        }
        model = GAUAlphaForMaskedLM(GAUAlphaConfig(**sizes, num_hidden_layers=2, **changes)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0, 0.5)
        model.save_pretrained(directory, safe_serialization=False)
        (directory / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
        with torch.no_grad():
            outputs = model(tokens, tokens != 0, types, output_hidden_states=True, output_attentions=True)
        np.savez_compressed(
            directory / "expected.npz",
            input_ids=tokens,
            token_type_ids=types,
            hidden_states=torch.stack(outputs.hidden_states),
            attentions=torch.stack(outputs.attentions),
            logits=outputs.logits,
        )
    tokenizer = GAUAlphaTokenizer(str(directory / "vocab.txt"))
    encodings = {" | ".join(texts): dict(tokenizer(*texts)) for texts in TEXTS}
    path = DIRECTORY / "encodings.json"
    path.write_text(json.dumps(encodings, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{DIRECTORY}: {', '.join(sorted(path.name for path in DIRECTORY.iterdir()))}")


if __name__ == "__main__":
    main()
