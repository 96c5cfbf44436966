# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""GAUConfig: defaults, validation and its messages, round trips, values changed when a checkpoint is loaded."""

import json
import logging

import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from modeling_gau import GAUConfig, GAUForSequenceClassification, GAUModel
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS
from modeling_gau.configuration_gau import NORMALIZATION_USES_N


SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "attention_key_size": 8, "num_hidden_layers": 2}


def test_defaults_are_the_base_model():
    config = GAUConfig()
    assert (config.hidden_size, config.intermediate_size, config.attention_key_size) == (768, 1536, 128)
    assert (config.num_hidden_layers, config.attention_normalization, config.fixed_n) == (24, "softmax_plus", None)
    assert (config.reference_length, config.softmax_plus_min_length) == (512, 16)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert config.tie_word_embeddings and not config.use_bias and not config.sparse_prediction


def test_there_is_one_head_as_wide_as_the_key():
    config = GAUConfig(**SMALL)
    assert config.num_attention_heads == config.to_dict()["num_attention_heads"] == 1
    assert config.head_dim == 8
    config.num_attention_heads = 12
    with pytest.raises(ValueError, match="num_attention_heads=12: a gated attention unit has exactly one"):
        GAUModel(config)
    with pytest.raises(ValueError, match="exactly one head"):
        GAUConfig(**SMALL, num_attention_heads=2)


def test_files_without_the_number_of_heads_load(tmp_path):
    GAUConfig(**SMALL).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.pop("num_attention_heads") == 1
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert AutoConfig.from_pretrained(tmp_path).num_attention_heads == 1


LONGROPE = {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
REFUSED = [
    (
        {"attention_normalization": "sparsemax"},
        "Unknown attention_normalization='sparsemax'.*softmax_plus.*squared_relu",
    ),
    ({"attention_normalization": "softmax", "fixed_n": 512}, "fixed_n=512 has no use.*Leave it out.*softmax_plus"),
    ({"attention_normalization": "normalized_squared_relu", "fixed_n": 9}, "fixed_n=9 has no use.*squared_relu"),
    ({"fixed_n": 0}, "fixed_n=0 must be an integer from 1 to 2147483647, or None"),
    ({"fixed_n": -3}, "fixed_n=-3 must be an integer from 1 to 2147483647, or None"),
    ({"fixed_n": 1.5}, "'fixed_n'.*float"),
    ({"vocab_size": 0}, "vocab_size=0 must be an integer from 1 to"),
    ({"hidden_size": 0}, "hidden_size=0 must be an integer from 1 to"),
    ({"intermediate_size": -1}, "intermediate_size=-1 must be an integer from 1 to"),
    ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be an integer from 1 to"),
    ({"type_vocab_size": 0}, "type_vocab_size=0 must be an integer from 1 to"),
    ({"max_position_embeddings": 0}, "max_position_embeddings=0 must be an integer from 1 to"),
    ({"softmax_plus_min_length": 0}, "softmax_plus_min_length=0 must be an integer from 1 to"),
    ({"attention_key_size": 3}, "attention_key_size=3 must be even"),
    ({"reference_length": 1}, "reference_length=1 must be an integer from 2 to"),
    ({"pad_token_id": 50}, "pad_token_id=50 is outside the vocabulary of 50 tokens"),
    ({"pad_token_id": -1}, "pad_token_id=-1 is outside the vocabulary"),
    ({"hidden_act": "swoosh"}, "Unknown hidden_act='swoosh'.*silu"),
    ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob=1.0 must be a probability in \[0, 1\)"),
    ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob=-0.1 must be a probability"),
    ({"classifier_dropout": 2}, "classifier_dropout=2 must be a probability"),
    ({"classifier_pooling": "max"}, "'classifier_pooling'.*'cls', 'mean', 'pair'.*max"),
    ({"initializer_range": 0.0}, "initializer_range=0.0 must be a number from 1e-37 to 1000"),
    ({"layer_norm_eps": 0}, "layer_norm_eps=0 must be a number from 1e-37 to 1"),
    ({"rope_parameters": {"rope_type": "spiral"}}, "Unknown rope_type='spiral'.*linear, dynamic, yarn"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
    ({"hidden_size": "16"}, "'hidden_size' expected int, got str"),
    ({"fixed_n": 10**30}, "fixed_n=10+ must be an integer from 1 to 2147483647"),
    ({"fixed_n": 2**63}, "fixed_n=9223372036854775808 must be an integer from 1 to 2147483647"),
    ({"softmax_plus_min_length": 10**30}, "softmax_plus_min_length=10+ must be an integer from 1 to 2147483647"),
    ({"sliding_window": 10**30}, "sliding_window=10+ must be an integer from 1 to 2147483647"),
    ({"num_hidden_layers": 10**9, "sliding_window": 4}, "num_hidden_layers=10+ must be an integer from 1 to 100000"),
    (
        {"relative_position_bias_max_distance": 2**40},
        "max_distance=1099511627776 must be an integer from 1 to 1048576",
    ),
    ({"layer_norm_eps": float("nan")}, "layer_norm_eps=nan must be a number from 1e-37 to 1"),
    ({"initializer_range": float("nan")}, "initializer_range=nan must be a number from 1e-37 to 1000"),
    ({"initializer_range": float("inf")}, "initializer_range=inf must be a number from 1e-37 to 1000"),
    ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob=nan must be a probability"),
    ({"num_labels": 0}, "num_labels=0 must be an integer from 1 to 10000000"),
    ({"num_labels": -3}, "num_labels=-3 must be an integer from 1 to 10000000"),
    ({"num_labels": 10**30}, "num_labels=10+ must be an integer from 1 to 10000000"),
    ({"num_labels": 2.0}, "num_labels=2.0 must be an integer"),
    ({"id2label": {}}, "num_labels=0 must be an integer"),
    ({"id2label": ["no", "yes"]}, "id2label.*dict"),
    ({"problem_type": "foo"}, "problem_type.*regression.*single_label_classification"),
    ({"dtype": "float99"}, "dtype='float99' is no floating dtype of PyTorch"),
    ({"dtype": "int"}, "dtype='int' is no floating dtype of PyTorch"),
    ({"dtype": 3}, "dtype=3 is no floating dtype of PyTorch"),
    (
        {"num_attention_heads": 0, "rope_parameters": LONGROPE},
        "num_attention_heads=0: a gated attention unit has exactly one head",
    ),
    (
        {"attention_key_size": 2, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        "rope_type='dynamic' needs an attention_key_size of at least 4",
    ),
    ({"num_labels": 1, "problem_type": "single_label_classification"}, "num_labels=1: the loss would always be 0"),
    (
        {"id2label": {0: "a"}, "problem_type": "single_label_classification"},
        "num_labels=1: the loss would always be 0",
    ),
    *(
        (
            {"rope_parameters": {"rope_theta": theta}},
            rf"rope_parameters: rope_theta={theta!r} must be a number from 1\.0",
        )
        for theta in (0, -5, float("nan"), "abc", True)
    ),
    ({"rope_theta": 0}, "rope_parameters: rope_theta=0 must be a number"),
    ({"rope_parameters": {"rope_type": "linear"}}, "Missing required keys.*'linear': {'factor'}"),
    ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "rope_parameters: factor=0 must be a number"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mscale": "x"}}, "rope_parameters: mscale='x' must be"),
    ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "rope_parameters: factor=nan must be a number"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, "all layers share their rotary positions"),
    (
        {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 4}},
        r"short_factor=\[1\.0\] must be a list of 4 numbers",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_bad_values_are_refused_with_a_message(changes, message):
    with pytest.raises(ValueError, match=message) as error:  # `.` matches no line break
        GAUConfig(**{**SMALL, **changes})
    assert "\n" not in str(error.value)


def test_errors_are_those_of_a_strict_dataclass_too():
    with pytest.raises(StrictDataclassError, match=r"^Field 'hidden_size' expected int, got str"):
        GAUConfig(hidden_size="16")
    config = GAUConfig(**SMALL)
    with pytest.raises(ValueError, match=r"^Field 'hidden_size' expected int, got str"):
        config.hidden_size = "16"
    with pytest.raises(ValueError, match=r"^num_labels=0 must be an integer"):
        config.num_labels = 0
    assert (config.hidden_size, config.num_labels) == (16, 2)


def test_bounds_themselves_are_allowed():
    GAUConfig(**SMALL, fixed_n=1, softmax_plus_min_length=1, pad_token_id=49, hidden_dropout_prob=0)
    GAUConfig(**SMALL, fixed_n=2**31 - 1, sliding_window=2**31 - 1, softmax_plus_min_length=2**31 - 1, num_labels=1)
    GAUConfig(**SMALL, layer_norm_eps=1e-12, initializer_range=1e-10, problem_type="regression", rope_theta=1e9)
    GAUConfig(**SMALL, pad_token_id=None, reference_length=2, classifier_dropout=0.0)


def test_a_field_changed_afterwards_is_validated_by_the_model():
    config = GAUConfig(**SMALL, attention_normalization="softmax")
    config.fixed_n = 512
    with pytest.raises(ValueError, match="fixed_n=512 has no use"):
        GAUModel(config)


def test_round_trips(tmp_path):
    config = GAUConfig(
        **SMALL,
        attention_normalization="squared_relu",
        fixed_n=77,
        use_bias=True,
        classifier_pooling="mean",
        classifier_dropout=0.3,
        initializer_range=0.05,
        sparse_prediction=True,
        rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        num_labels=4,
    )
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "gau" and "head_dim" not in written
    for loaded in (GAUConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is GAUConfig
        assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert GAUConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert loaded.fixed_n == 77 and loaded.num_labels == 4
    assert loaded.rope_parameters == {**config.rope_parameters, "rope_theta": 10000.0}


def test_fixed_n_is_changed_at_load_and_back(tmp_path):
    GAUConfig(**SMALL, fixed_n=512).save_pretrained(tmp_path / "fixed")
    GAUConfig(**SMALL).save_pretrained(tmp_path / "own")
    assert GAUConfig.from_pretrained(tmp_path / "fixed").fixed_n == 512
    assert GAUConfig.from_pretrained(tmp_path / "fixed", fixed_n=None).fixed_n is None
    assert AutoConfig.from_pretrained(tmp_path / "fixed", fixed_n=None).fixed_n is None
    assert GAUConfig.from_pretrained(tmp_path / "own", fixed_n=64).fixed_n == 64
    with pytest.raises(ValueError, match="fixed_n=512 has no use"):
        GAUConfig.from_pretrained(tmp_path / "fixed", attention_normalization="softmax")
    changed = GAUConfig.from_pretrained(tmp_path / "fixed", attention_normalization="softmax", fixed_n=None)
    assert (changed.attention_normalization, changed.fixed_n) == ("softmax", None)


@pytest.mark.parametrize("load", [GAUConfig.from_pretrained, AutoConfig.from_pretrained])
def test_values_of_the_call_and_of_the_file_are_validated(tmp_path, load):
    GAUConfig(**SMALL).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="fixed_n=0 must be an integer from 1 to 2147483647, or None"):
        load(tmp_path, fixed_n=0)
    with pytest.raises(ValueError, match=r"hidden_dropout_prob=1\.5"):
        load(tmp_path, hidden_dropout_prob=1.5)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "reference_length": 1}))
    with pytest.raises(ValueError, match="reference_length=1 must be an integer from 2 to"):
        load(tmp_path)


def test_rotary_positions_given_at_load_get_the_base(tmp_path):
    GAUConfig(**SMALL).save_pretrained(tmp_path)
    loaded = GAUConfig.from_pretrained(tmp_path, rope_parameters={"rope_type": "linear", "factor": 4.0})
    assert loaded.rope_parameters == {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}


def test_misspelt_keys_warn_with_the_nearest_field(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        config = GAUConfig(**SMALL, atention_normalization="softmax")
    assert "no field `atention_normalization`" in caplog.text
    assert "Did you mean `attention_normalization`?" in caplog.text
    assert config.attention_normalization == "softmax_plus"

    caplog.clear()
    GAUConfig(**SMALL).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert GAUConfig.from_pretrained(tmp_path, fixd_n=5).fixed_n is None
    assert "Did you mean `fixed_n`?" in caplog.text


def test_keys_of_other_versions_and_known_aliases_do_not_warn(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        config = GAUConfig(**SMALL, a_future_option=3, num_labels=3, head_dim=8, finetuning_task="mnli")
        config.save_pretrained(tmp_path)
        loaded = GAUConfig.from_pretrained(tmp_path)
    assert loaded.a_future_option == 3
    assert "has no field" not in caplog.text


def test_label_maps(tmp_path):
    config = GAUConfig(**SMALL, id2label={0: "no", 1: "perhaps", 2: "yes"}, label2id={"no": 0, "perhaps": 1, "yes": 2})
    assert config.num_labels == 3
    GAUForSequenceClassification(config).save_pretrained(tmp_path)
    loaded = GAUForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}
    assert loaded.classifier.out_features == 3
    assert GAUConfig(**SMALL, num_labels=5).id2label[4] == "LABEL_4"


def test_normalizations_and_their_computation_agree():
    uses_n = {name: normalization.uses_n for name, normalization in ATTENTION_NORMALIZATIONS.items()}
    assert uses_n == NORMALIZATION_USES_N


def test_values_that_libraries_write_are_taken():
    """Nulls in rotary parameters stand for what is not given; counted labels are NumPy's integers."""
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "attention_factor": None, "beta_fast": None}
    assert GAUConfig(rope_parameters=yarn).rope_parameters["factor"] == 2.0
    assert GAUConfig(num_labels=np.int64(3)).num_labels == 3
