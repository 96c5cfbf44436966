# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fixtures that several rooms' tests share, each defined once."""

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from modeling_gau import GAUConfig, GAUForMaskedLM


SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
# Weights far from their usual scale: otherwise every row of attention is nearly uniform, and a dropped mask, a wrong
# neighbour or a wrong factor would hardly change the outputs.
SMALL_MODEL = {
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 40,
    "attention_key_size": 12,
    "num_hidden_layers": 3,
    "initializer_range": 0.4,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def pytest_collection_finish() -> None:
    """Takes what the imports made out of the garbage collector.

    accelerate collects garbage in every `train`: with all libraries imported, 0.3 of a tiny run's 0.4 seconds.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def handler_of_sigterm():
    """Programs that a test runs in its own process set one. A process forked right then can miss the signal with
    which a pool ends it, and the pool would wait for it forever."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def make_model() -> Callable:
    """`make_model(kind=GAUForMaskedLM, backend=None, seed=0, **fields)`: a small model in evaluation mode."""

    def make(kind: type = GAUForMaskedLM, backend: str | None = None, seed: int = 0, **fields):
        torch.manual_seed(seed)
        return kind._from_config(GAUConfig(**SMALL_MODEL | fields), attn_implementation=backend).eval()

    return make


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable:
    """`make_tokenizer(words)`: one token a word, BERT's special tokens as ids 0 to 4, `[CLS] a [SEP] b [SEP]`."""

    def make(words: Iterable[str]) -> PreTrainedTokenizerFast:
        vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS.values(), *words])}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
        return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **SPECIAL_TOKENS)

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    """55 words, w5 to w59, each with its own number as id; as many entries as `make_model` has by default."""
    return make_tokenizer(f"w{number}" for number in range(5, 60))


@pytest.fixture
def private_cache(tmp_path, monkeypatch) -> None:
    """An empty cache of `datasets` for one test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def in_two_processes(tmp_path) -> Callable:
    """`in_two_processes(main, argv)`: calls it in two processes of Gloo, as a launcher would; returns what they print.

    They are forked, because a new process needs many seconds to import torch and transformers.
    """

    def work(main: Callable, argv: list[str], log: Path, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
        with log.open("w", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                main(argv)

    def run(main: Callable, argv: list[str]) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
        logs, processes = [tmp_path / f"{uuid.uuid4()}.log" for _ in range(2)], []
        for rank, log in enumerate(logs):
            environment = place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = multiprocessing.get_context("fork").Process(target=work, args=(main, argv, log, environment))
            process.start()
            processes.append(process)
        for process in processes:
            process.join(timeout=120)
            process.kill()
        for process in processes:
            process.join()
        printed = "".join(log.read_text() for log in logs)
        assert [process.exitcode for process in processes] == [0, 0], printed[-5000:]
        return printed

    return run


@pytest.fixture
def in_fork_without_package() -> Callable:
    """`in_fork_without_package(function, *args)`: calls it in a process that has forgotten this package.

    A fork has the libraries already, which a new process would need many seconds to import.
    """

    def work(function: Callable, args: tuple) -> None:
        torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
        for name in [name for name in sys.modules if name.partition(".")[0] == "modeling_gau"]:
            del sys.modules[name]
        CONFIG_MAPPING._extra_content.pop("gau")
        function(*args)

    def run(function: Callable, *args: object) -> None:
        process = multiprocessing.get_context("fork").Process(target=work, args=(function, args))
        process.start()
        process.join(timeout=120)
        process.kill()
        process.join()
        assert process.exitcode == 0

    return run
