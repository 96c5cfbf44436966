# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What the data arguments of a run come to: lengths, tokenizer, an example to fill in, batches."""

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_gau.pretraining.data import (
    PretrainingData,
    check_streaming,
    choose_lengths,
    length_stages,
    load_tokenizer,
    make_loader,
    mask_a_word,
    prose,
    some_documents,
)
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.batches import IndexedBatches, Stage
from modeling_gau.text.fingerprints import tokenizer_fingerprint
from modeling_gau.text.streaming import DocumentStream
from modeling_gau.text.tokenization import tokenize_documents, train_tokenizer


WORDS = "the cat dog house garden sees likes builds leaves small green old quickly never often and or with".split()
TEXTS = [" ".join(np.random.default_rng(number).choice(WORDS, 50)) + "." for number in range(40)]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    documents = Dataset.from_dict({"text": TEXTS})
    return {kind: train_tokenizer(documents, kind, 300) for kind in ("wordpiece", "bpe")}


def arguments(tmp_path, **options) -> PretrainingArguments:
    return PretrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **options)


# Lengths to evaluate at


def lengths(tmp_path, n_tokens: int, longest: int | None = None, **options) -> list[int]:
    return choose_lengths(DataArguments(**options), arguments(tmp_path), n_tokens, longest)


def test_lengths_to_evaluate_at(tmp_path, capsys):
    assert lengths(tmp_path, 10_000) == [64, 128, 256, 512, 1024, 2048]
    assert lengths(tmp_path, 10_000, max_seq_length=96) == [64, 96, 128, 256, 512, 1024, 2048]
    assert lengths(tmp_path, 10_000, max_seq_length=96, eval_lengths=[32, 500]) == [32, 96, 500]
    assert capsys.readouterr().out == ""
    assert lengths(tmp_path, 510, max_seq_length=512) == [64, 128, 256, 512]
    assert "No evaluation at length 1024, 2048: the validation text has only 510 tokens." in capsys.readouterr().out


def test_a_model_with_a_table_of_positions_is_evaluated_within_it(tmp_path, capsys):
    assert lengths(tmp_path, 10_000, longest=512, max_seq_length=128) == [64, 128, 256, 512]
    assert lengths(tmp_path, 10_000, longest=300, max_seq_length=128) == [64, 128, 256]
    assert lengths(tmp_path, 10_000, longest=40, max_seq_length=40) == [40]
    assert capsys.readouterr().out == ""  # that there is no row of 1024 is the model's doing, not the text's
    with pytest.raises(ValueError, match="--eval_lengths 1024: the model has positions for 512 tokens only"):
        lengths(tmp_path, 10_000, longest=512, eval_lengths=[64, 1024])
    with pytest.raises(ValueError, match="--max_seq_length 512: the model has positions for 300 tokens only"):
        lengths(tmp_path, 10_000, longest=300)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 103}, "--max_seq_length 103: .* only 100 tokens.* Lower --max_seq_length to 102 or less"),
        (
            {"max_seq_length": 64, "eval_lengths": [64, 103]},
            "--eval_lengths 103: .* only 100 tokens.* Lower --eval_lengths to 102 or less",
        ),
    ],
)
def test_validation_text_too_short_for_a_length(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        lengths(tmp_path, 100, **options)


# Tokenizers


def test_some_documents_are_any_of_them_and_the_same_again(tmp_path):
    texts = [f"{number:03} " + "\u6587" * (number % 40) for number in range(300)]  # characters count, not bytes
    documents = Dataset.from_dict({"text": texts})
    assert some_documents(documents, sum(map(len, texts)))["text"] == texts
    some = some_documents(documents, 1000)["text"]
    assert some == some_documents(documents, 1000)["text"] == sorted(some)
    assert 1000 <= sum(map(len, some)) < 1000 + 44 and set(some) <= set(texts)
    assert min(map(int, (text[:3] for text in some))) < 100 and max(map(int, (text[:3] for text in some))) > 200
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"line {number}" for number in range(50)))
    stream = DocumentStream((str(path),), text_unit="line")
    assert some_documents(stream, 20)["text"] == ["line 0", "line 1", "line 2", "line 3"]


def test_a_tokenizer_is_named_or_the_checkpoints_or_trained(tokenizers, tmp_path):
    documents = Dataset.from_dict({"text": TEXTS})
    for kind in ("wordpiece", "bpe"):
        tokenizers[kind].save_pretrained(tmp_path / kind)
    named = ModelArguments(tokenizer_name=str(tmp_path / "bpe"), model_name_or_path=str(tmp_path / "wordpiece"))
    model = ModelArguments(model_name_or_path=str(tmp_path / "wordpiece"))
    data_args = DataArguments(vocab_size=300, tokenizer_type="bpe")

    def load(model_args, checkpoint=None):
        loaded = load_tokenizer(model_args, data_args, arguments(tmp_path), documents, checkpoint)
        return next(
            kind for kind in tokenizers if tokenizer_fingerprint(tokenizers[kind]) == tokenizer_fingerprint(loaded)
        )

    assert load(named) == "bpe" and load(model) == "wordpiece"
    assert load(model, str(tmp_path / "bpe")) == "bpe" and load(named, str(tmp_path / "wordpiece")) == "bpe"
    assert load(ModelArguments(config_name="gau-tiny")) == "bpe"


def test_a_tokenizer_that_cannot_mask_is_refused(tokenizers, tmp_path):
    tokenizers["wordpiece"].save_pretrained(tmp_path / "without")
    without = AutoTokenizer.from_pretrained(tmp_path / "without")
    without.mask_token = without.sep_token = None
    without.save_pretrained(tmp_path / "without")
    model_args = ModelArguments(tokenizer_name=str(tmp_path / "without"))
    with pytest.raises(ValueError, match=r"without has no sep, mask token.*leave --tokenizer_name out"):
        load_tokenizer(model_args, DataArguments(), arguments(tmp_path), None, None)


# The example


def test_the_example_is_one_word_of_running_text(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    prose = "one two three the garden the garden the garden often the cat sees the dog"
    texts = ["x = {1: 2, 3: 4}; y = [a[0] for a in x] # ---------------------- " * 20, f"one [MASK] {prose}", prose]
    example, answer = mask_a_word(texts, tokenizer)
    assert example.count("[MASK]") == 1
    assert example.replace("[MASK]", answer) == " ".join(prose.split()[1:-1])
    assert len(tokenizer.tokenize(answer)) == 1
    example, answer = mask_a_word(["\n " + "\u6587" * 7], tokenizer)
    assert (example, answer) == ("\u6587" * 3 + "[MASK]" + "\u6587" * 3, "\u6587")


def test_sentences_are_found_in_any_amount_of_text():
    sentence = "The cat sees the dog in the garden of the old house."
    assert list(prose(f"{sentence} {sentence}\n\nx = [1]. {sentence}", 160)) == [sentence] * 3
    assert list(prose("the cat sat on the mat " * 100_000, 160)) == []  # minutes, if it took the square of the length


def test_text_about_masks_has_an_example_too(tokenizers):
    assert mask_a_word(["the [MASK] and the [MASK]", "[MASK]"], tokenizers["wordpiece"]) == ("[MASK]", None)


# Batches


def test_stages_of_the_arguments():
    assert length_stages(DataArguments(max_seq_length=96)) == (Stage((96,), (1.0,)),)
    assert length_stages(DataArguments(max_seq_length=64, mixed_lengths=[64, 128])) == (Stage((64, 128), (1.0, 1.0)),)
    weighted = DataArguments(max_seq_length=128, mixed_lengths=[64, 128], mixed_length_weights=[3, 1])
    assert length_stages(weighted) == (Stage((64, 128), (3, 1)),)
    schedule = DataArguments(max_seq_length=128, length_schedule="64:0.5,128:0.5:20000")
    assert [stage.rope_theta for stage in length_stages(schedule)] == [None, 20000.0]
    with pytest.raises(ValueError, match="one positive number for each of the 2 lengths"):
        length_stages(DataArguments(max_seq_length=64, mixed_lengths=[64, 128], mixed_length_weights=[1, 2, 3]))
    with pytest.raises(
        ValueError, match=r"--max_seq_length 512 is not among the training lengths 64, 128\. .* --max_seq_length 128"
    ):
        length_stages(DataArguments(length_schedule="64:0.5,128:0.5"))


def loader(tokenizers, tmp_path, data_options: dict, **options):
    tokenizer = tokenizers["wordpiece"]
    train = tokenize_documents(Dataset.from_dict({"text": TEXTS}), tokenizer)
    data = PretrainingData(tokenizer, train, {}, 0.0, "", None, {})
    data_args = DataArguments(**data_options)
    args = arguments(tmp_path, **options)
    return make_loader(data, data_args, args, length_stages(data_args)), args


@pytest.mark.parametrize("packing", ["none", "concat", "documents"])
def test_epochs_give_the_number_of_steps(tokenizers, tmp_path, packing, capsys):
    made, args = loader(
        tokenizers,
        tmp_path,
        {"packing": packing, "max_seq_length": 64},
        num_train_epochs=2.5,
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
    )
    # As many steps as cover two and a half times all pages.
    report = made.source.pages.report
    assert 0 <= 6 * args.max_steps - 2.5 * report.pages < 6
    assert len(made) == 2 * args.max_steps and isinstance(made.source, IndexedBatches)
    assert f"--packing {packing}: {report}." in capsys.readouterr().out
    assert report.documents == len(TEXTS)
    masks = "document_ids" in next(iter(made))
    assert masks == (packing == "documents")


def test_steps_win_over_epochs(tokenizers, tmp_path):
    made, args = loader(tokenizers, tmp_path, {"max_seq_length": 64}, num_train_epochs=9, max_steps=5)
    assert (args.max_steps, len(made)) == (5, 5)


def test_the_length_of_a_run_of_long_stages(tokenizers, tmp_path):
    # 8 rows of 64 are 4 pages of 128.
    made, args = loader(
        tokenizers,
        tmp_path,
        {"max_seq_length": 64, "length_schedule": "64:0.5,128:0.5"},
        per_device_train_batch_size=8,
        num_train_epochs=1,
    )
    assert args.max_steps == -(-made.source.pages.report.pages // 4)
    shapes = [batch["input_ids"].shape for batch in made]
    half = round(args.max_steps / 2)
    assert set(shapes[:half]) == {(8, 64)} and set(shapes[half:]) == {(4, 128)}


def test_the_data_seed_decides_on_batches(tokenizers, tmp_path):
    batches = [
        next(
            iter(loader(tokenizers, tmp_path, {"max_seq_length": 64}, max_steps=1, seed=seed, data_seed=data_seed)[0])
        )
        for seed, data_seed in ((1, None), (2, 1), (1, 2))
    ]
    assert batches[0]["input_ids"].equal(batches[1]["input_ids"])
    assert not batches[0]["input_ids"].equal(batches[2]["input_ids"])


def test_masking_follows_the_arguments(tokenizers, tmp_path):
    options = {"max_seq_length": 64, "mlm_probability": 0.6, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    batch = next(iter(loader(tokenizers, tmp_path, options, max_steps=1)[0]))
    asked = batch["labels"] != -100
    assert 0.5 < asked.float().mean() < 0.7
    assert (batch["input_ids"][asked] == tokenizers["wordpiece"].mask_token_id).all()


def test_streams_have_no_epochs_to_count(tmp_path):
    check_streaming(arguments(tmp_path, max_steps=3, eval_strategy="steps"))
    with pytest.raises(ValueError, match="--streaming needs --max_steps"):
        check_streaming(arguments(tmp_path))
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        with pytest.raises(ValueError, match=f"--{name} epoch: with --streaming every reader .* Use --{name} steps"):
            check_streaming(arguments(tmp_path, max_steps=3, **{name: "epoch"}))
