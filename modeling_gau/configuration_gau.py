# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Configuration of the GAU encoder."""

import difflib
import importlib
import math
import sys
from dataclasses import fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.utils import logging


logger = logging.get_logger(__name__)

# Attention normalizations, and whether their weights depend on n. `attention_gau.py` computes them. It is not imported
# here, so that a configuration alone loads neither Triton nor custom operators.
NORMALIZATION_USES_N = {
    "softmax": False,
    "softmax_plus": True,
    "scalable_softmax": True,
    "softmax_sink": False,
    "sigmoid": True,
    "squared_relu": True,
    "normalized_squared_relu": False,
    "laplace": True,
}


@strict
class GAUConfig(PreTrainedConfig):
    r"""
    Configuration of a [`GAUModel`]: an encoder of gated attention units (Hua et al. 2022, arXiv 2202.10447) in the
    form of GAU-alpha (kexue.fm/archives/9052). The defaults give a base model of 24 layers.

    Two gated attention units replace one Transformer layer: each has about `3 * intermediate_size * hidden_size`
    parameters and a single attention head with keys of `attention_key_size` and values of `intermediate_size` columns.

    Args:
        vocab_size (`int`, *optional*, defaults to 30522):
            Number of tokens in the vocabulary.
        hidden_size (`int`, *optional*, defaults to 768):
            Width of the hidden states.
        intermediate_size (`int`, *optional*, defaults to 1536):
            Width of the gate and of the value of the single attention head.
        attention_key_size (`int`, *optional*, defaults to 128):
            Width of queries and keys; even, since rotary positions pair neighbouring columns.
        num_hidden_layers (`int`, *optional*, defaults to 24):
            Number of gated attention units.
        hidden_act (`str`, *optional*, defaults to `"silu"`):
            Activation of the input projection.
        attention_normalization (`str`, *optional*, defaults to `"softmax_plus"`):
            How scores a_ij = q_i . k_j / sqrt(attention_key_size) become attention weights:

            - `"softmax"`.
            - `"softmax_plus"`: softmax with the entropy-invariant scale log n / log `reference_length`
              (kexue.fm/archives/8823).
            - `"scalable_softmax"`: softmax of c a log n with c learned in each layer (arXiv 2501.19399); c begins at
              1 / log `reference_length`, where it equals `softmax_plus` without the clamp.
            - `"softmax_sink"`: exp(a) / (exp(r) + row sum of exp(a)) with r learned in each layer, 0 at first, so that
              a token may attend to nothing.
            - `"sigmoid"`: sigmoid(a - log n) (arXiv 2409.04431); n offsets the number of keys.
            - `"squared_relu"`: relu(a)^2 / n (kexue.fm/archives/8934). With a `relative_position_bias` b it is the
              form of the paper that introduced the unit, relu(q . k / n + b)^2 (arXiv 2202.10447).
            - `"normalized_squared_relu"`: relu(a)^2 divided by its row sum.
            - `"laplace"`: (1 + erf((q . k / n - m) / (d sqrt(2)))) / 2 with m = sqrt(1/2), d = sqrt(1/(4 pi))
              (arXiv 2209.10655), a smooth form of the squared ReLU; a `relative_position_bias` is added to q . k / n.
        fixed_n (`int`, *optional*):
            Replaces n, the number of real tokens of each sequence, wherever the normalization uses it. `None` keeps
            each sequence's own n. It affects the forward pass only, so it may change when a checkpoint is loaded. An
            error if the normalization does not use n.
        reference_length (`int`, *optional*, defaults to 512):
            Length N at which `softmax_plus` equals `softmax`: the length the model is trained at.
        softmax_plus_min_length (`int`, *optional*, defaults to 16):
            `softmax_plus` treats a shorter sequence as one of this length; 1 switches the clamp off.
        max_position_embeddings (`int`, *optional*, defaults to 512):
            Length the model was trained for. There is no position table, so longer inputs work; the value serves
            tokenizers and the scaled kinds of rotary positions.
        type_vocab_size (`int`, *optional*, defaults to 2):
            Number of token types.
        use_bias (`bool`, *optional*, defaults to `False`):
            Whether the projections and the scale-offsets of queries and keys have biases.
        query_key_offset_init (`float`, *optional*):
            Gives query and key learned offsets, base * gamma + beta, whose columns begin at this value. Through the
            rotary positions equal offsets c of query and key add c^2 sqrt(attention_key_size) to the score of a token
            with itself, less with growing distance: training begins with attention to what is near. `None`: no
            offsets; with `use_bias`, offsets that begin at 0.
        relative_position_bias (`str`, *optional*):
            A learned function of the distance of query and key that is added to every score. `"distance"` has one
            number for each distance up to `relative_position_bias_max_distance` to either side, beyond which it is
            constant (backends that take an additive term: eager, sdpa, gau_blocked). `"rotary"` is the product of two
            learned vectors under rotary positions, for any length and every backend. `None`: no bias.
        relative_position_bias_init (`float`, *optional*, defaults to 1.0):
            The bias of a token with itself before training. With growing distance it falls off like the mean of
            cos(distance * rotary frequency).
        relative_position_bias_max_distance (`int`, *optional*, defaults to 128):
            Largest distance with a number of its own for `"distance"`.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout on the embeddings and on the output of each unit.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout on the attention weights.
        classifier_dropout (`float`, *optional*):
            Dropout before the classifier; `None` means `hidden_dropout_prob`.
        classifier_pooling (`str`, *optional*, defaults to `"cls"`):
            `"cls"` takes the first real token of a sequence, `"mean"` the mean over its real tokens.
        initializer_range (`float`, *optional*):
            Standard deviation of every weight matrix. `None` gives num_hidden_layers^(-1/3) / sqrt(fan-in)
            (kexue.fm/archives/8990), with which deep post-norm stacks of the squared-ReLU form train without warm-up.
        layer_norm_eps (`float`, *optional*, defaults to 1e-12):
            Added to the mean square inside the normalization of hidden states.
        pad_token_id (`int`, *optional*, defaults to 0):
            Id of the padding token.
        tie_word_embeddings (`bool`, *optional*, defaults to `True`):
            Whether the masked-LM head shares its matrix with the word embeddings.
        rope_parameters (`dict`, *optional*):
            Rotary positions as everywhere in transformers, `{"rope_type": "default", "rope_theta": 10000.0}` by
            default; `linear`, `dynamic` (NTK) and `yarn` scale positions, at load time too.
        sliding_window (`int`, *optional*):
            Number of tokens to either side that a layer of local attention sees; n then counts these only. `None`:
            every layer sees the whole sequence.
        layer_types (`list[str]`, *optional*):
            For each layer `"full_attention"` or `"sliding_attention"`. With a `sliding_window`, by default every third
            layer is full, from the first one on, as in ModernBERT.
        sparse_prediction (`bool`, *optional*, defaults to `False`):
            Whether [`GAUForMaskedLM`], given labels, computes logits for the labelled positions only.
        unpad_inputs (`bool`, *optional*, defaults to `True`):
            Whether to remove padding before the layers and restore it after them: on CPUs where that saves time, on
            accelerators with FlashAttention. Results are the same up to rounding. Compiled and traced models keep
            the padding, and so do calls for hidden states or attentions. Use `False` for code that reads hidden
            states inside the layers and expects `(batch, seq, hidden)`, not `(1, tokens, hidden)`: forward hooks,
            PEFT's `adapter_names`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a value of a wrong type or out of range, an unknown normalization,
            activation or kind of rotary positions, or `fixed_n` where it has no use. The message says what is allowed.

    Example:

    ```python
    >>> from modeling_gau import GAUConfig, GAUModel

    >>> configuration = GAUConfig(attention_normalization="softmax_plus")
    >>> model = GAUModel(configuration)
    ```"""

    model_type = "gau"
    # Generic code (rotary parameters, cost estimates, PEFT) asks for the width of a head.
    attribute_map = {"head_dim": "attention_key_size"}
    default_theta = 10000.0

    vocab_size: int = 30522
    hidden_size: int = 768
    intermediate_size: int = 1536
    attention_key_size: int = 128
    num_hidden_layers: int = 24
    hidden_act: str = "silu"
    attention_normalization: str = "softmax_plus"
    fixed_n: int | None = None
    reference_length: int = 512
    softmax_plus_min_length: int = 16
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    use_bias: bool = False
    query_key_offset_init: float | int | None = None
    relative_position_bias: Literal["distance", "rotary"] | None = None
    relative_position_bias_init: float | int = 1.0
    relative_position_bias_max_distance: int = 128
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    classifier_dropout: float | int | None = None
    classifier_pooling: Literal["cls", "mean"] = "cls"
    initializer_range: float | int | None = None
    layer_norm_eps: float | int = 1e-12
    rope_parameters: dict | None = None
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    sliding_window: int | None = None
    layer_types: list[str] | None = None
    sparse_prediction: bool = False
    unpad_inputs: bool = True

    def __post_init__(self, **kwargs):
        self._report_unknown_keys(kwargs)
        if self.sliding_window is not None and self.layer_types is None:
            kinds = ("full_attention", "sliding_attention", "sliding_attention")
            self.layer_types = [kinds[index % 3] for index in range(self.num_hidden_layers)]
        super().__post_init__(**kwargs)

    @property
    def num_attention_heads(self) -> int:
        """1: a gated attention unit has one head, but generic code asks."""
        return 1

    @num_attention_heads.setter
    def num_attention_heads(self, value: int):
        if value != 1:
            raise ValueError(f"num_attention_heads={value}: a gated attention unit has exactly one head.")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As in the base class, but keyword arguments (`from_pretrained(..., fixed_n=512)`) join the file's fields
        before construction, so that both are validated and completed alike."""
        cls._report_unknown_keys(kwargs)
        # The base class resolves the dtype and passes it to the model.
        names = {field.name for field in fields(cls)} - {"dtype"}
        given = {name: kwargs.pop(name) for name in names & kwargs.keys()}
        return super().from_dict({**config_dict, **given}, **kwargs)

    def validate_attention_normalization(self):
        """The normalization is known, and `fixed_n` is positive and only given where n is used."""
        uses_n = NORMALIZATION_USES_N.get(self.attention_normalization)
        if uses_n is None:
            raise ValueError(
                f"Unknown attention_normalization='{self.attention_normalization}'. "
                f"Allowed: {', '.join(NORMALIZATION_USES_N)}."
            )
        if self.fixed_n is None:
            return
        if not uses_n:
            using = [name for name, uses in NORMALIZATION_USES_N.items() if uses]
            raise ValueError(
                f"fixed_n={self.fixed_n} has no use with attention_normalization='{self.attention_normalization}', "
                f"whose weights do not depend on n. Leave it out (None), or use one of {', '.join(using)}."
            )
        if self.fixed_n < 1:
            raise ValueError(f"fixed_n={self.fixed_n} must be a positive integer, or None for each sequence's own n.")

    def validate_sizes(self):
        """Widths and counts are positive, the key width is even, and the padding token is in the vocabulary."""
        positive = ("vocab_size", "hidden_size", "intermediate_size", "attention_key_size", "num_hidden_layers")
        positive += ("type_vocab_size", "max_position_embeddings", "softmax_plus_min_length")
        positive += ("relative_position_bias_max_distance",)
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.attention_key_size % 2:
            raise ValueError(
                f"attention_key_size={self.attention_key_size} must be even: rotary positions pair neighbouring "
                "columns."
            )
        if self.reference_length < 2:
            raise ValueError(
                f"reference_length={self.reference_length} must be at least 2: softmax_plus divides by its log."
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id={self.pad_token_id} is outside the vocabulary of {self.vocab_size} tokens."
            )

    def validate_windows(self):
        """Each layer has a type, and layers of local attention a window."""
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(
                f"sliding_window={self.sliding_window} must be at least 1 token to either side, or None for full "
                "attention in every layer."
            )
        if self.sliding_window is not None and self.layer_types is None:
            raise ValueError(
                f"sliding_window={self.sliding_window} was set on a configuration without layer_types: give it when "
                "the configuration is made, or set layer_types, too."
            )
        types = self.layer_types or []  # as many as there are layers: checked by the base class
        for kind in types:
            if kind not in ("full_attention", "sliding_attention"):
                raise ValueError(f"layer_types: '{kind}' is not one of full_attention, sliding_attention.")
        if "sliding_attention" in types and self.sliding_window is None:
            raise ValueError("layer_types has 'sliding_attention': give sliding_window, tokens to either side.")

    def validate_activation(self):
        """The activation is one of transformers'."""
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"Unknown hidden_act='{self.hidden_act}'. Allowed: {', '.join(ACT2FN)}.")

    def validate_rotary_positions(self):
        """The kind of rotary positions is known, and all key columns are rotated."""
        rope_type = self.rope_parameters["rope_type"]
        if rope_type not in ("default", *ROPE_INIT_FUNCTIONS):
            allowed = ", ".join(("default", *ROPE_INIT_FUNCTIONS))
            raise ValueError(f"Unknown rope_type='{rope_type}' in rope_parameters. Allowed: {allowed}.")
        if self.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                f"partial_rotary_factor={self.rope_parameters['partial_rotary_factor']} in rope_parameters: a gated "
                "attention unit rotates all key columns. Leave it out."
            )

    def validate_scales(self):
        """`layer_norm_eps` and `initializer_range` are positive."""
        for name in ("layer_norm_eps", "initializer_range"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be positive.")

    def validate_relative_positions(self):
        """Initial values are finite, and that of a rotary bias is positive."""
        for name in ("query_key_offset_init", "relative_position_bias_init"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name}={value} must be a finite number.")
        if self.relative_position_bias == "rotary" and self.relative_position_bias_init <= 0:
            raise ValueError(
                f"relative_position_bias_init={self.relative_position_bias_init} must be positive with "
                "relative_position_bias='rotary': a product of two vectors of zeros would never learn."
            )

    def validate_dropout(self):
        """Dropout probabilities are in [0, 1)."""
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name}={value} must be a probability in [0, 1).")

    @classmethod
    def _report_unknown_keys(cls, kwargs: dict[str, Any]) -> None:
        """Warns about keys that look like misspelt fields, which the base class keeps silently. Not an error, since
        files written by newer versions must stay readable."""
        names = [field.name for field in fields(cls)]
        for key in kwargs:
            nearest = [] if hasattr(cls, key) else difflib.get_close_matches(key, names, n=1, cutoff=0.8)
            if nearest:
                logger.warning(f"GAUConfig has no field `{key}`: it has no effect. Did you mean `{nearest[0]}`?")


def register_in_package(name: str) -> None:
    """Makes a module an attribute of its package, as an ordinary import does.

    transformers puts modules of remote code into `sys.modules` only. dill looks for them in their package, and without
    this pickles their classes by value, which fails on what transformers wraps around the layers.
    """
    package, _, module = name.rpartition(".")
    if package:
        setattr(importlib.import_module(package), module, sys.modules[name])


register_in_package(__name__)
