# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""transformers' pipelines from saved checkpoints; every value is compared with one computed from the model directly.

transformers 5 has no question-answering pipeline; the span head is read here as such a pipeline would.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from modeling_gau import (
    GAUForMaskedLM,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
)


WORDS = "the a cat dog sat ran on under mat tree small big and is this example about animals weather where ? .".split()
SHORT, LONG = "the cat ran", "the small dog sat under a big tree and the cat ran on the mat ."


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    return make_tokenizer(WORDS)


@pytest.fixture
def save(tmp_path, tokenizer, make_model):
    """Saves a model of the given class with its tokenizer, and returns its folder and the model."""

    def save(model_class: type, **fields) -> tuple[str, torch.nn.Module]:
        model = make_model(model_class, vocab_size=len(tokenizer), num_hidden_layers=2, **fields)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path), model

    return save


def run(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, *texts: str):
    """Outputs of the model for one text, or one pair of texts, without padding."""
    with torch.no_grad():
        return model(**tokenizer(*texts, return_tensors="pt"))


@pytest.mark.parametrize("backend", [None, "eager", "sdpa", "gau_blocked"])
def test_fill_mask(save, tokenizer, backend):
    folder, model = save(GAUForMaskedLM)
    texts = ["the [MASK] ran", LONG.replace("dog", "[MASK]")]
    fill = pipeline("fill-mask", model=folder, model_kwargs={"attn_implementation": backend})
    # One padded batch: padding must not matter.
    for text, answers in zip(texts, fill(texts, batch_size=2, top_k=4), strict=True):
        ids = tokenizer(text).input_ids
        scores, best = run(model, tokenizer, text).logits[0, ids.index(tokenizer.mask_token_id)].softmax(-1).topk(4)
        assert [answer["token"] for answer in answers] == best.tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(scores.tolist(), rel=1e-4)
        assert answers[0]["token_str"] == tokenizer.convert_ids_to_tokens(best[0].item())


def test_fill_mask_with_targets(save, tokenizer):
    folder, model = save(GAUForMaskedLM)
    answers = pipeline("fill-mask", model=folder)("the [MASK] ran", targets=["dog", "tree"])
    probabilities = run(model, tokenizer, "the [MASK] ran").logits[0, 2].softmax(-1)
    expected = {word: probabilities[tokenizer.convert_tokens_to_ids(word)].item() for word in ("dog", "tree")}
    assert {answer["token_str"]: answer["score"] for answer in answers} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_text_classification(save, tokenizer, pooling):
    labels = {0: "bad", 1: "good", 2: "odd"}
    folder, model = save(GAUForSequenceClassification, id2label=labels, classifier_pooling=pooling)
    classify = pipeline("text-classification", model=folder, top_k=None)
    for text, answers in zip([SHORT, LONG], classify([SHORT, LONG], batch_size=2), strict=True):
        scores = run(model, tokenizer, text).logits[0].softmax(-1)
        expected = {labels[i]: score for i, score in enumerate(scores.tolist())}
        assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(expected, rel=1e-4)


def test_text_classification_of_pairs(save, tokenizer):
    folder, model = save(GAUForSequenceClassification, num_labels=2)
    answer = pipeline("text-classification", model=folder)({"text": SHORT, "text_pair": LONG})
    scores = run(model, tokenizer, SHORT, LONG).logits[0].softmax(-1)
    assert answer["label"] == f"LABEL_{scores.argmax().item()}"
    assert answer["score"] == pytest.approx(scores.max().item(), rel=1e-4)


def test_token_classification(save, tokenizer):
    labels = {0: "O", 1: "B-THING", 2: "I-THING"}
    folder, model = save(GAUForTokenClassification, id2label=labels)
    tag = pipeline("token-classification", model=folder, ignore_labels=[])
    for text, answers in zip([SHORT, LONG], tag([SHORT, LONG], batch_size=2), strict=True):
        scores, best = run(model, tokenizer, text).logits[0, 1:-1].softmax(-1).max(-1)
        assert [answer["word"] for answer in answers] == text.split()
        assert [text[answer["start"] : answer["end"]] for answer in answers] == text.split()
        assert [answer["entity"] for answer in answers] == [labels[i] for i in best.tolist()]
        assert [answer["score"] for answer in answers] == pytest.approx(scores.tolist(), rel=1e-4)


def test_feature_extraction(save, tokenizer):
    folder, model = save(GAUModel)
    extract = pipeline("feature-extraction", model=folder)
    for text, features in zip([SHORT, LONG], extract([SHORT, LONG], batch_size=2, return_tensors=True), strict=True):
        expected = run(model, tokenizer, text).last_hidden_state
        torch.testing.assert_close(features[:, : expected.shape[1]], expected, rtol=1e-4, atol=1e-5)


def test_zero_shot_classification(save, tokenizer):
    labels = ["contradiction", "neutral", "entailment"]
    ids = {label: i for i, label in enumerate(labels)}
    folder, model = save(GAUForSequenceClassification, id2label=dict(enumerate(labels)), label2id=ids)
    classify = pipeline("zero-shot-classification", model=folder)
    template = "this example is about {} ."
    answer = classify(LONG, ["animals", "weather"], hypothesis_template=template, multi_label=True)
    for label, score in zip(answer["labels"], answer["scores"], strict=True):
        contradiction, _, entailment = run(model, tokenizer, LONG, template.format(label)).logits[0]
        assert score == pytest.approx(torch.sigmoid(entailment - contradiction).item(), rel=1e-4)
    assert answer["scores"] == sorted(answer["scores"], reverse=True)


def test_question_answering(save, tokenizer):
    folder, model = save(GAUForQuestionAnswering)
    loaded = AutoModelForQuestionAnswering.from_pretrained(folder)
    batch = AutoTokenizer.from_pretrained(folder)(
        ["where is the cat ?", "where ?"], [LONG, SHORT], padding=True, return_tensors="pt"
    )
    assert Path(folder, "tokenizer.json").is_file() and 0 in batch.attention_mask
    with torch.no_grad():
        spans = loaded(**batch)
    for i, texts in enumerate([("where is the cat ?", LONG), ("where ?", SHORT)]):
        alone = run(model, tokenizer, *texts)
        length = alone.start_logits.shape[1]
        torch.testing.assert_close(spans.start_logits[i, :length], alone.start_logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(spans.end_logits[i, :length], alone.end_logits[0], rtol=1e-4, atol=1e-5)
