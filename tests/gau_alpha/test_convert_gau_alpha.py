# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""GAU-alpha's formats in and out: every tensor, what is written, and what cannot be converted."""

import fnmatch
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gau_alpha_reference as reference
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from modeling_gau import GAUConfig, GAUError, GAUForMaskedLM, GAUForSequenceClassification, GAUModel
from modeling_gau.gau_alpha.convert import convert, convert_to_port, main
from modeling_gau.gau_alpha.tensors import encoder_tensors
from modeling_gau.modeling_gau import AUTO_CLASSES
from modeling_gau.text.tokenization import SPECIAL_TOKENS


DATA = Path(__file__).parent / "data"
PORT_VARIANTS = ["softmax_plus", "softmax-biases", "squared_relu"]


@pytest.fixture
def port(tmp_path) -> Path:
    return reference.write_port(tmp_path / "port", reference.port_state(reference.random_weights(False)))


@pytest.fixture
def tensorflow(tmp_path) -> Path:
    variables = reference.tensorflow_variables(reference.random_weights(False))
    return reference.write_tensorflow(tmp_path / "tensorflow", variables)


@pytest.fixture
def ours(port, tmp_path) -> Path:
    convert(port, tmp_path / "ours")
    return tmp_path / "ours"


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(read_json(path) | changes))


def assert_refused(source: Path, output: Path, message: str, go: Callable = convert) -> None:
    with pytest.raises(ValueError, match=message):
        go(source, output)
    assert not output.exists() and not [path for path in output.parent.iterdir() if path.name.startswith(".")]


assert_not_ported = partial(assert_refused, go=convert_to_port)


# What is written


@pytest.mark.parametrize("kind", ["port", "tensorflow"])
def test_the_directory(request, tmp_path, kind):
    model = convert(request.getfixturevalue(kind), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md",
        "configuration_gau.py", "modeling_gau.py", "attention_gau.py", "kernels_gau.py", "unpadding_gau.py",
    }  # fmt: skip
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert type(loaded) is GAUForMaskedLM
    assert loaded.decoder.weight is loaded.model.embeddings.word_embeddings.weight
    config = loaded.config
    assert config.auto_map.keys() == {"AutoConfig", *AUTO_CLASSES}
    assert (config.attention_normalization, config.reference_length, config.softmax_plus_min_length) == (
        "softmax_plus", 512, 1,
    )  # fmt: skip
    assert (config.hidden_act, config.layer_norm_eps, config.use_bias) == ("silu", 1e-12, False)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    weights = reference.random_weights(False)
    np.testing.assert_array_equal(
        loaded.model.layers[1].gau.o_dense.weight.detach(), weights["encoder.layer.1.gau.o_dense.weight"]
    )


def run_example(card: ModelCard, directory: Path, monkeypatch) -> None:
    monkeypatch.chdir(directory)
    exec(re.search(r"```python\n(.*?)```", card.text, re.DOTALL).group(1), {})


def test_the_model_card(port, tmp_path, monkeypatch, capsys):
    convert(port, tmp_path / "gau-alpha-tiny")
    card = ModelCard.load(tmp_path / "gau-alpha-tiny" / "README.md")
    assert card.data.language == "zh" and card.data.pipeline_tag == "fill-mask" and card.data.license is None
    for text in ("github.com/ZhuiyiTechnology/GAU-alpha", "kexue.fm/archives/9052", "su2022gaualpha", "token type 0"):
        assert text in card.text
    run_example(card, tmp_path, monkeypatch)
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_bare_encoder_has_a_card_and_comes_back_bare(tmp_path, monkeypatch, capsys):
    state = reference.port_state(reference.random_weights(True), has_head=False)
    model = convert(reference.write_port(tmp_path / "port", state, use_bias=True), tmp_path / "bare")
    assert type(model) is GAUModel
    assert_same_tensors(state, convert_to_port(tmp_path / "bare", tmp_path / "back"))
    assert read_json(tmp_path / "back/config.json")["architectures"] == ["GAUAlphaModel"]
    card = ModelCard.load(tmp_path / "bare" / "README.md")
    assert card.data.pipeline_tag == "feature-extraction"
    run_example(card, tmp_path, monkeypatch)
    assert re.fullmatch(r"torch.Size\(\[1, \d+, 20\]\)\n", capsys.readouterr().out)


def test_the_tokenizer_gives_what_the_ports_gives(tmp_path):
    convert(DATA / "port" / "softmax_plus", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    encodings = read_json(DATA / "port" / "encodings.json")
    assert len(encodings) == 2
    for texts, expected in encodings.items():
        assert dict(tokenizer(*texts.split(" | "))) == expected
    assert tokenizer.is_fast and tokenizer.model_max_length == 512
    assert {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS} == SPECIAL_TOKENS


def test_a_tokenizer_that_keeps_case(port, ours, tmp_path):
    settings = port / "tokenizer_config.json"
    settings.write_text('{"do_lower_case": "False"}')
    assert_refused(port, tmp_path / "cased", "do_lower_case must be true or false, got 'False'")
    settings.write_text('{"do_lower_case": false}')
    convert(port, tmp_path / "cased")
    cased, lower = map(AutoTokenizer.from_pretrained, (tmp_path / "cased", ours))
    assert lower.tokenize("GAU天") == ["gau", "天"] and cased.tokenize("GAU天") == ["[UNK]", "天"]
    convert_to_port(tmp_path / "cased", tmp_path / "back")
    assert read_json(tmp_path / "back/tokenizer_config.json")["do_lower_case"] is False


# The way back


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype and torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("variant", PORT_VARIANTS)
def test_the_round_trip_is_bit_equal(tmp_path, variant):
    source = DATA / "port" / variant
    convert(source, tmp_path / "ours")
    convert_to_port(tmp_path / "ours", tmp_path / "back")
    load = lambda path: torch.load(path / "pytorch_model.bin", weights_only=True)  # noqa: E731
    assert_same_tensors(load(source), load(tmp_path / "back"))
    assert (source / "vocab.txt").read_bytes() == (tmp_path / "back/vocab.txt").read_bytes()
    before, after = (read_json(path / "config.json") for path in (source, tmp_path / "back"))
    # What the model does not depend on.
    del before["gradient_checkpointing"], before["transformers_version"]
    assert after | before == after


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_is_kept(tmp_path, dtype):
    state = {n: t.to(dtype) for n, t in reference.port_state(reference.random_weights(True)).items()}
    source = reference.write_port(tmp_path / "port", state, use_bias=True)
    convert(source, tmp_path / "ours")
    assert_same_tensors(state, convert_to_port(tmp_path / "ours", tmp_path / "back"))


def test_a_head_of_its_own(tmp_path):
    state = reference.port_state(reference.random_weights(False))
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] * 2
    port = reference.write_port(tmp_path / "port", state)
    # The port ties the head where its configuration does not say otherwise: such a head is of no effect there.
    assert_refused(port, tmp_path / "ours", r'differs from the word embeddings.* "tie_word_embeddings": false')
    change_json(port / "config.json", tie_word_embeddings=False)
    model = convert(port, tmp_path / "ours")
    assert not model.config.tie_word_embeddings
    assert_same_tensors(state, convert_to_port(tmp_path / "ours", tmp_path / "back"))


def test_a_model_that_was_trained_further(ours, tmp_path):
    model = GAUForMaskedLM.from_pretrained(ours)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(ours)
    state = convert_to_port(ours, tmp_path / "back")
    again = convert(tmp_path / "back", tmp_path / "again")
    assert_same_tensors(model.state_dict(), again.state_dict())
    assert torch.equal(state["cls.predictions.decoder.weight"], model.decoder.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_normalization": "normalized_squared_relu"}, "not one of softmax, softmax_plus, squared_relu"),
        ({"fixed_n": 512}, "fixed_n=512: the port always uses the length of each sequence"),
        ({"sliding_window": 9}, "sliding_window=9: in the port, every layer attends to the whole sequence"),
        ({"reference_length": 128}, "reference_length=128: the port always uses 512"),
        ({"softmax_plus_min_length": 16}, r"softmax_plus_min_length=16.*pass --softmax_plus_min_length 1"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}, "default type with base 10000"),
    ],
)
def test_what_the_port_cannot_compute(ours, tmp_path, changes, message):
    config = GAUConfig.from_pretrained(ours)
    if "sliding_window" in changes:
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    for name, value in changes.items():
        setattr(config, name, value)
    config.save_pretrained(ours)
    assert_not_ported(ours, tmp_path / "back", f"(?s)The PyTorch port cannot compute this model.*{message}")
    if "softmax_plus_min_length" in changes:
        convert_to_port(ours, tmp_path / "back", softmax_plus_min_length=1)
        assert (tmp_path / "back/pytorch_model.bin").is_file()


def test_every_tensor_is_accounted_for_on_the_way_back(ours, tmp_path):
    weights, name = ours / "model.safetensors", "model.layers.1.gau.o_dense.weight"
    state = load_file(weights)
    for changed, message in (
        (
            {n: t for n, t in state.items() if n != name} | {"extra": torch.ones(2)},
            rf"missing: {name}; unknown: extra",
        ),
        (state | {name: state[name].T.contiguous()}, f"of another shape: {name}"),
    ):
        save_file(changed, weights, {"format": "pt"})
        assert_not_ported(ours, tmp_path / "back", message)


def test_to_port_refuses_what_is_damaged_or_has_another_format(port, tensorflow, ours, tmp_path):
    for source in (port, tensorflow):
        assert_not_ported(source, tmp_path / "back", r"is not a checkpoint of this package .*drop --to-port")
    GAUForSequenceClassification.from_pretrained(ours).save_pretrained(tmp_path / "classifier")
    message = r"is a GAUForSequenceClassification: only GAUForMaskedLM and GAUModel can be"
    assert_not_ported(tmp_path / "classifier", tmp_path / "back", message)
    weights = ours / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(GAUError, match=r"^The weights of .*ours are damaged or cut short"):
        main(["--input", str(ours), "--output", str(tmp_path / "back"), "--to-port"])
    (ours / "config.json").write_text("[1]")
    assert_not_ported(ours, tmp_path / "back", r"ours/config.json must contain a JSON object")


def change_tokenizer(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["normalizer"].update(strip_accents=False), "differs in normalizer"),
        (lambda content: content.update(normalizer=None), "differs in normalizer"),
        (lambda content: content.update(pre_tokenizer={"type": "WhitespaceSplit"}), "differs in pre_tokenizer"),
        (lambda content: content["model"].update(continuing_subword_prefix="@@"), "differs in model"),
        (lambda content: content["added_tokens"].append(content["added_tokens"][0] | {"id": 5, "content": "天"}),
         "differs in added_tokens"),
        (lambda content: content["model"]["vocab"].update(extra=23), "has 24 tokens, but the model has .* for 23"),
    ],
)  # fmt: skip
def test_tokenizers_the_port_does_not_support(ours, tmp_path, change, message):
    change_tokenizer(ours / "tokenizer.json", change)
    assert_not_ported(ours, tmp_path / "back", message)


def test_token_types_that_the_port_does_not_give(ours, tmp_path, caplog):
    convert_to_port(ours, tmp_path / "first")
    assert not caplog.messages

    def give_type_1(content: dict) -> None:
        for piece in content["post_processor"]["pair"][3:]:
            next(iter(piece.values()))["type_id"] = 1

    change_tokenizer(ours / "tokenizer.json", give_type_1)
    convert_to_port(ours, tmp_path / "second")
    assert "token type 1 to the second text of a pair; the port's assigns 0" in "".join(caplog.messages)


def test_lengths_are_the_configurations(port, tmp_path):
    change_json(port / "config.json", max_position_embeddings=64, classifier_dropout=0.25)
    convert(port, tmp_path / "ours")
    assert AutoTokenizer.from_pretrained(tmp_path / "ours").model_max_length == 64
    convert_to_port(tmp_path / "ours", tmp_path / "back")
    assert read_json(tmp_path / "back/tokenizer_config.json")["model_max_length"] == 64
    config = read_json(tmp_path / "back/config.json")
    assert (config["max_position_embeddings"], config["classifier_dropout"]) == (64, 0.25)


# Files of the port


def test_safetensors_and_shards(port, tmp_path):
    state = torch.load(port / "pytorch_model.bin", weights_only=True)
    expected = convert(port, tmp_path / "bin").state_dict()
    (port / "pytorch_model.bin").unlink()
    tied = {name: tensor for name, tensor in state.items() if not name.startswith("cls.")}
    save_file(tied, port / "model.safetensors")
    assert_same_tensors(expected, convert(port, tmp_path / "safetensors").state_dict())
    (port / "model.safetensors").unlink()
    names = list(tied)
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for path, part in parts.items():
        save_file({name: tied[name] for name in part}, port / path)
    weight_map = {name: path for path, part in parts.items() for name in part}
    (port / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same_tensors(expected, convert(port, tmp_path / "shards").state_dict())


def test_indices_of_shards(port, tmp_path):
    state = torch.load(port / "pytorch_model.bin", weights_only=True)
    (port / "pytorch_model.bin").unlink()
    torch.save(state, port / "a.bin")
    for content, message in (
        ({}, "needs a `weight_map`"),
        ({"weight_map": ["a.bin"]}, "needs a `weight_map`"),
        ({"weight_map": {"x": "../a.bin"}}, "from tensor names to files in the same directory"),
        ({"weight_map": {"x": "a.bin", "y": "b.bin"}}, r"names files that are missing: b\.bin"),
    ):
        (port / "pytorch_model.bin.index.json").write_text(json.dumps(content))
        assert_refused(port, tmp_path / "out", message)
    shutil.copy(port / "a.bin", port / "b.bin")
    assert_refused(port, tmp_path / "out", "several of its files have a tensor of the same name")


def test_the_name_on_the_hub(port, tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(port)

    monkeypatch.setattr("modeling_gau.gau_alpha.convert.snapshot_download", snapshot_download)
    convert("someone/gau-alpha", tmp_path / "out")
    assert asked["name"] == "someone/gau-alpha" and (tmp_path / "out/config.json").is_file()
    names = ["config.json", "vocab.txt", "pytorch_model.bin", "model.safetensors", "pytorch_model.bin.index.json"]
    names += ["pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors", "bert_model.ckpt.index"]
    for name in names:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in asked["patterns"]), name
    assert not any(fnmatch.fnmatch("training_args.bin", pattern) for pattern in asked["patterns"])


def test_tensors_of_several_precisions(port, tmp_path):
    state = torch.load(port / "pytorch_model.bin", weights_only=True)
    name = "gau_alpha.encoder.layer.0.gau.o_dense.weight"
    for tensor in (state[name].half(), state[name].int(), state[name].to_sparse()):
        torch.save(state | {name: tensor}, port / "pytorch_model.bin")
        assert_refused(port, tmp_path / "out", rf"one floating-point type for all tensors, found .*{re.escape(name)}")
    variables = reference.tensorflow_variables(reference.random_weights(False))
    kernel = "GAU_alpha/encoder/layer_0/gau/i_dense/kernel"
    variables[kernel] = variables[kernel].astype(np.int64)
    source = reference.write_tensorflow(tmp_path / "tensorflow", variables)
    assert_refused(source, tmp_path / "out", rf"one floating-point type for all tensors, found .*{kernel}")


def test_a_scale_is_not_folded_in_half_precision(tmp_path):
    state = {name: tensor.bfloat16() for name, tensor in reference.port_state(reference.random_weights(False)).items()}
    source = reference.write_port(tmp_path / "port", state, attention_scale=False)
    assert_refused(source, tmp_path / "out", "save the checkpoint in float32")


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_are_not_executed(port, tmp_path, capsys):
    torch.save({"weight": Malicious()}, port / "pytorch_model.bin")
    message = "pytorch_model.bin cannot be read: .* or contains objects other than tensors"
    assert_refused(port, tmp_path / "out", message)
    assert "executed" not in capsys.readouterr().out


def test_damaged_weights(port, tmp_path):
    path = port / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:1000])
    assert_refused(port, tmp_path / "out", "pytorch_model.bin cannot be read: it is damaged")
    for content in (b"", b"hello world", b"\x80\x02}q\x00."):
        path.write_bytes(content)
        assert_refused(port, tmp_path / "out", r"pytorch_model.bin cannot be read|The checkpoint in")
    torch.save({1: torch.ones(2)}, path)
    assert_refused(port, tmp_path / "out", "pytorch_model.bin must contain a dict of tensors")
    path.rename(port / "model.safetensors")
    assert_refused(port, tmp_path / "out", "model.safetensors cannot be read")


# What is wrong


def test_every_tensor_is_accounted_for(port, tmp_path):
    state = torch.load(port / "pytorch_model.bin", weights_only=True)
    name = "gau_alpha.encoder.layer.1.gau.q_scaleoffset.weight"
    for changed, message in (
        ({n: t for n, t in state.items() if n != name}, f"missing: {re.escape(name)}"),
        (state | {"classifier.weight": torch.ones(2, 20)}, r"unknown: classifier.weight\. Only the masked"),
        (state | {name: torch.ones(11)}, rf"of another shape: {re.escape(name)} is \(11,\), not \(10,\)"),
        ({n: t for n, t in state.items() if "o_dense" not in n}, "missing: .*layer.2.gau.o_dense.weight"),
    ):
        torch.save(changed, port / "pytorch_model.bin")
        assert_refused(port, tmp_path / "out", message)
    torch.save(state, port / "pytorch_model.bin")
    change_json(port / "config.json", num_hidden_layers=2)
    assert_refused(port, tmp_path / "out", r"unknown: gau_alpha.encoder.layer.2.gau.i_dense.weight")
    change_json(port / "config.json", num_hidden_layers=30)
    assert_refused(port, tmp_path / "out", r"missing: .* and \d+ more")


def test_every_variable_is_accounted_for(tmp_path):
    variables = reference.tensorflow_variables(reference.random_weights(False))
    name = "GAU_alpha/encoder/layer_0/gau/i_dense/kernel"
    extra = "bert/pooler/dense/kernel"
    for changed, message in (
        ({n: v for n, v in variables.items() if n != name}, f"missing: {name}"),
        (variables | {extra: np.ones((2, 2), np.float32)}, f"unknown: {extra}"),
        (variables | {name: variables[name].T}, rf"of another shape: {name} is \(82, 20\), not \(20, 82\)"),
    ):
        source = reference.write_tensorflow(tmp_path / "in", changed)
        assert_refused(source, tmp_path / "out", message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', not 'gau_alpha'"),
        ({"model_type": "gau"}, "in this package's format already; --to-port goes the other way"),
        ({"normalization": "relu"}, "unknown normalization 'relu'. Allowed: softmax, softmax_plus, squared_relu"),
        ({"embedding_size": 10}, "an embedding_size other than hidden_size is not supported"),
        ({"vocab_size": 10}, r"vocab.txt has 23 tokens, but the model has embeddings for 10"),
        ({"pad_token_id": 3}, r"\[PAD\] has id 0, but the configuration says 3"),
        ({"hidden_size": 21, "embedding_size": 21}, r"of another shape: .*word_embeddings.weight is \(23, 20\)"),
        ({"hidden_act": "swash"}, "Unknown hidden_act='swash'"),
        ({"hidden_act": ["swish"]}, "config.json: hidden_act must be a name"),
        ({"vocab_size": "23"}, "config.json: .*vocab_size"),
        ({"attention_scale": "20"}, "config.json: attention_scale must be true or false"),
    ],
)
def test_configurations_of_the_port(port, tmp_path, changes, message):
    change_json(port / "config.json", **changes)
    assert_refused(port, tmp_path / "out", message)


def test_configurations_of_tensorflow(tensorflow, tmp_path):
    change_json(tensorflow / "bert_config.json", attention_key_size=None)
    assert_refused(tensorflow, tmp_path / "out", "bert_config.json: attention_key_size must be")
    (tensorflow / "bert_config.json").write_text("{")
    assert_refused(tensorflow, tmp_path / "out", "bert_config.json is not JSON")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no vocab.txt: copy the vocabulary"),
        ("\n".join([*reference.VOCABULARY[:-1], "天"]), r"vocab.txt, line 6: '天' occurs twice"),
        ("\n".join(reference.VOCABULARY[:4]), r"vocab.txt lacks \[MASK\]"),
        (b"[PAD]\n\xff\xfe", r"vocab.txt is not UTF-8 \(byte 6\)"),
    ],
)
def test_vocabularies(port, tmp_path, content, message):
    path = port / "vocab.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_refused(port, tmp_path / "out", message)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_vocabularies_as_editors_leave_them(port, tmp_path, end):
    text = "\ufeff" + end.replace("\n\n", "\n").join(reference.VOCABULARY) + end
    (port / "vocab.txt").write_bytes(text.encode())
    convert(port, tmp_path / "out")
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    assert sorted(vocabulary, key=vocabulary.get) == reference.VOCABULARY


def test_directories(port, tensorflow, tmp_path):
    assert_refused(tmp_path, tmp_path / "out", r"has no GAU-alpha checkpoint.*port has one")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", tmp_path / "out", r"neither config.json .* nor bert_config.json")
    shutil.copy(port / "config.json", tensorflow)
    assert_refused(tensorflow, tmp_path / "out", "has both config.json .* and bert_config.json")
    (tensorflow / "config.json").unlink()
    (tensorflow / "bert_model.ckpt.index").unlink()
    assert_refused(tensorflow, tmp_path / "out", "must have exactly one checkpoint.*found none")
    (port / "pytorch_model.bin").unlink()
    assert_refused(port, tmp_path / "out", "has no weights: expected model.safetensors or pytorch_model.bin")


def test_nothing_is_overwritten(port, tmp_path):
    (tmp_path / "out").mkdir()
    convert(port, tmp_path / "out")  # empty: taken
    card = (tmp_path / "out/README.md").read_bytes()
    shutil.copytree(tmp_path / "out", tmp_path / "ours")
    for go, source in ((convert, port), (convert_to_port, tmp_path / "ours")):
        with pytest.raises(GAUError, match="is not empty"):
            go(source, tmp_path / "out")
    assert (tmp_path / "out/README.md").read_bytes() == card


def test_an_empty_directory_that_cannot_be_replaced(port, tmp_path, monkeypatch):
    (tmp_path / "mount").mkdir()
    before = (tmp_path / "mount").stat().st_ino
    (tmp_path / "link").symlink_to(tmp_path / "mount")
    convert(port, tmp_path / "link")
    assert (tmp_path / "mount").stat().st_ino == before and (tmp_path / "mount/config.json").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    convert_to_port(tmp_path / "mount", ".")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "config.json", "pytorch_model.bin", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interruption(port, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("modeling_gau.gau_alpha.convert.write_model_card", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(["--input", str(port), "--output", str(tmp_path / "out")])
    assert {path.name for path in tmp_path.iterdir()} == {"port"}


# The command


def test_the_command(port, tensorflow, tmp_path, capsys):
    main(["--input", str(tensorflow), "--output", str(tmp_path / "a"), "--attention-normalization", "squared_relu"])
    assert GAUConfig.from_pretrained(tmp_path / "a").attention_normalization == "squared_relu"
    main(["--input", str(tmp_path / "a"), "--output", str(tmp_path / "b"), "--to-port"])
    assert read_json(tmp_path / "b/config.json")["normalization"] == "squared_relu"
    with pytest.raises(GAUError, match=r"--attention_normalization softmax: .* says softmax_plus. Drop the"):
        main(["--input", str(port), "--output", str(tmp_path / "c"), "--attention_normalization", "softmax"])
    with pytest.raises(GAUError, match="--input nowhere is not a directory"):
        main(["--input", "nowhere", "--output", str(tmp_path / "c")])
    with pytest.raises(GAUError, match=r"--input ./nowhere cannot be read: there is no such folder\."):
        main(["--input", "./nowhere", "--output", str(tmp_path / "c")])
    with pytest.raises(GAUError, match=r"is not empty"):
        main(["--input", str(port), "--output", str(tmp_path / "a")])
    assert not (tmp_path / "c").exists()


def test_the_names_of_all_tensors():
    """The package's table against the reference's, which was written without it."""
    weights = reference.random_weights(True)
    config = GAUConfig(**reference.SIZES, num_hidden_layers=reference.N_LAYERS, use_bias=True)
    tensors = list(encoder_tensors(config))
    assert {tensor.port: tensor.shape for tensor in tensors} == {name: w.shape for name, w in weights.items()}
    variables = reference.tensorflow_variables(weights)
    assert {tensor.tensorflow: tensor.tensorflow_shape for tensor in tensors} == {
        name: value.shape for name, value in variables.items()
    }
    model = GAUModel(config)
    assert {tensor.ours: tensor.shape for tensor in tensors} == {n: p.shape for n, p in model.named_parameters()}
