# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""checkpoints/: the model that the guides start from."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer


ROOT = Path(__file__).parents[1]
ENGLISH = ROOT / "checkpoints" / "gau-tiny-en"


def test_the_code_is_that_of_the_package():
    """After a change of these files: python checkpoints/make.py checkpoints/gau-tiny-en checkpoints/gau-tiny-en"""
    package = {path.name: path.read_text("utf-8") for path in (ROOT / "modeling_gau").glob("*_gau.py")}
    assert package and {path.name: path.read_text("utf-8") for path in ENGLISH.glob("*.py")} == package


def test_it_is_small_and_loads_in_float32():
    assert sum(path.stat().st_size for path in ENGLISH.iterdir()) < 10e6
    assert {tensor.dtype for tensor in load_file(ENGLISH / "model.safetensors").values()} == {torch.float16}
    assert AutoModelForMaskedLM.from_pretrained(ENGLISH).dtype == torch.float32


def test_it_fills_masks_without_the_package(tmp_path):
    code = (
        "from transformers import pipeline\n"
        f"fill = pipeline('fill-mask', {str(ENGLISH)!r}, trust_remote_code=True)\n"
        "print(*(found['token_str'] for found in fill('he closed the [MASK] and went home.', top_k=20)))"
    )
    words = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    ).stdout.split()  # fmt: skip
    assert {"door", "house", "gate", "doors", "window", "room"} & set(words)


@torch.no_grad()
def test_it_knows_frequent_words():
    """Above the most frequent token, which is right in 4 percent of the cases."""
    tokenizer, model = AutoTokenizer.from_pretrained(ENGLISH), AutoModelForMaskedLM.from_pretrained(ENGLISH)
    text = (
        "The house stood on a hill above the river, and the old man who lived in it had not left it for years. "
        "In the morning he opened the door, looked at the sky and said that it would rain before the night. His wife "
        "did not answer. She put the bread on the table, and they sat down to eat. It was the first day of the year, "
        "and the people of the town went to the church to hear the word of God. The king had sent a letter to the "
        "governor, who read it to the people: the war was at an end, and the army would return in the spring."
    )
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=400)["input_ids"]
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[:, 5:-1:3] = True
    masked = ids.masked_fill(chosen, tokenizer.mask_token_id)
    assert (model(masked).logits.argmax(-1) == ids)[chosen].float().mean() > 0.15


def test_make(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make.py", str(ENGLISH), str(tmp_path / "copy")])
    runpy.run_path(str(ROOT / "checkpoints" / "make.py"), run_name="__main__")
    assert " MB" in capsys.readouterr().out
    config = json.loads((tmp_path / "copy" / "config.json").read_text("utf-8"))
    assert config["dtype"] == "float32"
    copied, original = (AutoModelForMaskedLM.from_pretrained(folder) for folder in (tmp_path / "copy", ENGLISH))
    assert all(map(torch.equal, copied.parameters(), original.parameters()))
