# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Stories, tokenizers trained on them, and a folder of one's own."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from modeling_gau.text.tokenization import train_tokenizer


WORDS = "the old sea captain saw a white whale near his small boat and called every sailor to look at it".split()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def story() -> Callable[..., str]:
    """`story(number, length=60)`: a sentence of random words, another for each number."""

    def write(number: int, length: int = 60) -> str:
        words = np.random.default_rng(number).choice(WORDS, length)
        return " ".join(words).capitalize() + f" ({number})."

    return write


@pytest.fixture(scope="session")
def stories(story) -> Dataset:
    return Dataset.from_dict({"text": [story(number) for number in range(60)]})


@pytest.fixture(scope="session")
def trained(stories) -> Callable:
    """`trained(kind, size=300)`: a tokenizer trained on the stories, once; not to be changed."""
    return cache(lambda kind, size=300: train_tokenizer(stories, kind, size))
