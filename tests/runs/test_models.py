# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which configuration the model arguments name, and what is refused."""

import sys

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
)

from modeling_gau import GAUConfig, GAUForMaskedLM, GAUModel
from modeling_gau.runs import models
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.models import (
    load_tokenizer,
    load_with_misfits,
    load_with_new_head,
    read_config,
    resolve_config,
    start_model,
    stated_fields,
    why_not_loaded,
)


@pytest.fixture
def presets(tmp_path, monkeypatch):
    """A script beside configuration/models/small-one."""
    folder = tmp_path / "configuration" / "models" / "small-one"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "gau", "hidden_size": 48, "num_hidden_layers": 2}')
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py")])
    monkeypatch.chdir(tmp_path)
    return folder


def test_resolve_config_of_a_preset(presets):
    config = resolve_config(
        ModelArguments(
            config_name="small-one",
            config_overrides="num_hidden_layers=3, hidden_dropout_prob=0,classifier_pooling=mean, use_bias=true,"
            "rope_parameters={rope_type: linear, factor: 2.0, rope_theta: 1e4}",
            attention_normalization="squared_relu",
            fixed_n=256,
        ),
        vocab_size=99,
    )
    assert type(config) is GAUConfig
    assert (config.hidden_size, config.num_hidden_layers, config.hidden_dropout_prob) == (48, 3, 0)
    assert (config.rope_parameters["factor"], config.classifier_pooling, config.use_bias) == (2.0, "mean", True)
    assert (config.attention_normalization, config.fixed_n, config.vocab_size) == ("squared_relu", 256, 99)


def test_offsets_of_a_preset_serve_the_softmax_family_alone(presets, monkeypatch):
    said = []
    monkeypatch.setattr(models.logger, "warning_once", said.append)
    content = '{"model_type": "gau", "query_key_offset_init": 1.4}'
    (presets / "config.json").write_text(content)

    def offset(name="small-one", **arguments):
        return resolve_config(ModelArguments(config_name=name, **arguments)).query_key_offset_init

    assert offset() == offset(attention_normalization="softmax_sink") == 1.4
    assert not said
    assert offset(attention_normalization="squared_relu") is None
    assert offset(config_overrides="attention_normalization=sigmoid") is None
    assert offset(config_overrides="relative_position_bias=rotary") is None
    assert len(said) == 3 and all("query_key_offset_init is left out" in text for text in said)
    assert offset(attention_normalization="squared_relu", config_overrides="query_key_offset_init=1.4") == 1.4
    # A file that is no preset is taken at its word.
    assert offset(name=str(presets), attention_normalization="squared_relu") == 1.4


def test_resolve_config_of_a_directory(tmp_path):
    BertConfig(hidden_size=36, num_attention_heads=3).save_pretrained(tmp_path / "bert")
    model = ModelArguments(model_name_or_path=str(tmp_path / "bert"), config_overrides="num_hidden_layers=2")
    config = resolve_config(model)
    assert type(config) is BertConfig and (config.hidden_size, config.num_hidden_layers) == (36, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Give --model_name_or_path for a checkpoint"),
        ({"config_overrides": "num_hidden_layer=3"}, "no field 'num_hidden_layer'. Did you mean num_hidden_layers?"),
        ({"config_overrides": "num_hidden_layers=3.5"}, "'num_hidden_layers' expected int, got float (value: 3.5)"),
        ({"config_overrides": "num_hidden_layers"}, "is a list of field=value, got 'num_hidden_layers'"),
        ({"attn_implementation": "spda"}, '`attn_implementation="spda"` is not supported'),
        (
            {"attn_implementation": "sdpa", "attention_normalization": "squared_relu"},
            "cannot compute attention_normalization='squared_relu'",
        ),
    ],
)
def test_resolve_config_refuses(presets, values, message):
    with pytest.raises(ValueError) as error:
        resolve_config(ModelArguments(config_name="small-one" if values else None, **values))
    assert message in str(error.value)


@pytest.fixture
def hub(monkeypatch) -> list[str]:
    """The names that the Hub is asked for; it knows none of them."""
    names = []

    def ask(name, **options):
        names.append(name)
        raise OSError(f"{name} is not known")

    monkeypatch.setattr("modeling_gau.runs.models.AutoConfig.from_pretrained", ask)
    return names


@pytest.mark.parametrize("name", ["smal-one", "small_one", "Small-One"])
def test_a_misspelt_preset_is_not_looked_for_on_the_hub(presets, hub, name):
    with pytest.raises(ValueError, match=rf"{name} is neither a preset \(.*small-one.*Did you mean small-one\?"):
        resolve_config(ModelArguments(config_name=name))
    assert not hub


def test_other_names_are_looked_for_on_the_hub(presets, hub):
    for name in ("roberta-base", "someone/small-one"):
        with pytest.raises(ValueError, match=f"{name} is neither a preset"):
            resolve_config(ModelArguments(config_name=name))
    assert hub == ["roberta-base", "someone/small-one"]


@pytest.mark.parametrize("load", [read_config, load_tokenizer])
def test_a_name_without_files_is_told_with_the_way_out(load, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"\(there is no such folder\)"):
        load("./mistyped")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids downloads: give a local folder"):
        load("someone/not-in-the-cache")
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    assert "no such folder" not in str(caught.value)


def test_without_the_hub_a_mirror_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    error = OSError("Check your internet connection")
    assert why_not_loaded("someone/gau", error) == "Check your internet connection"
    error.__cause__ = LocalEntryNotFoundError("no connection")
    for unreachable in (error, error.__cause__):
        assert "HF_ENDPOINT" in why_not_loaded("someone/gau", unreachable)


def test_stated_fields_are_those_of_the_file(presets):
    assert {"model_type", "hidden_size", "num_hidden_layers"} <= stated_fields(ModelArguments(config_name="small-one"))
    assert "vocab_size" not in stated_fields(ModelArguments(config_name="small-one"))


@pytest.mark.parametrize("kept", [0, 5, 100, -100])
def test_damaged_weights_are_named(tmp_path, kept):
    config = GAUConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, attention_key_size=4)
    GAUModel(config).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=rf"The weights of {tmp_path} \([\w.]+\) are damaged or cut short .*copy them again"
    ):
        start_model(AutoModel, ModelArguments(model_name_or_path=str(tmp_path)), config)


@pytest.mark.parametrize("content", [b"", b"\x80\x02damaged", b"\xff" * 300])
def test_a_damaged_pickle_is_named_without_advice_to_unpickle_it(tmp_path, content):
    BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"The weights of .* are damaged or cut short \([^\n]*\): copy") as caught:
        load_with_misfits(AutoModelForMaskedLM, str(tmp_path))
    assert "weights_only" not in str(caught.value)


def test_a_new_head_brings_no_report(tmp_path, caplog):
    config = GAUConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, attention_key_size=4)
    GAUForMaskedLM(config).save_pretrained(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert "LOAD REPORT" in caplog.text
    caplog.clear()
    _, misfits = load_with_misfits(AutoModelForSequenceClassification, str(tmp_path))
    assert {key.split(".")[0] for key in misfits} == {"classifier"} and set(misfits.values()) == {"missing"}
    assert caplog.text == ""


def test_weights_of_the_encoder_without_a_use_are_named(tmp_path, caplog):
    config = GAUConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, attention_key_size=4)
    GAUForMaskedLM(config).save_pretrained(tmp_path)
    config.num_hidden_layers = 1
    with caplog.at_level("WARNING"):
        load_with_misfits(AutoModelForMaskedLM, str(tmp_path), config=config)
    (record,) = [record.getMessage() for record in caplog.records if "does not use" in record.getMessage()]
    assert "layers.1." in record and "layers.0." not in record and "\n" not in record


def test_a_new_head_is_told_and_an_encoder_without_weights_refused(tmp_path, capsys, caplog):
    config = GAUConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, attention_key_size=4)
    GAUForMaskedLM(config).save_pretrained(tmp_path)
    load_with_new_head(AutoModelForQuestionAnswering, str(tmp_path))
    told = f"A new head with random weights on the encoder of {tmp_path}: qa_outputs.bias, qa_outputs.weight.\n"
    assert capsys.readouterr().out == told and "LOAD REPORT" not in caplog.text
    load_with_new_head(AutoModelForMaskedLM, str(tmp_path))
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match=r"do not fit its model; .*model\.layers\.2\.\S+ \(missing\)"):
        load_with_new_head(AutoModelForQuestionAnswering, str(tmp_path), num_hidden_layers=3)
