# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Configuration of the GAU encoder."""

import difflib
import importlib
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from numbers import Integral
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
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

# The smallest and largest values of fields. Larger ones overflow the integers and floats of PyTorch or can only be
# slips; smaller epsilons and deviations are 0 in float32.
_LARGEST_INTEGER = 2**31 - 1
_RANGES = {
    "vocab_size": (1, _LARGEST_INTEGER),
    "hidden_size": (1, 2**24),
    "intermediate_size": (1, 2**24),
    "attention_key_size": (1, 2**24),
    "num_hidden_layers": (1, 100_000),
    "type_vocab_size": (1, _LARGEST_INTEGER),
    "max_position_embeddings": (1, _LARGEST_INTEGER),
    "softmax_plus_min_length": (1, _LARGEST_INTEGER),
    "relative_position_bias_max_distance": (1, 2**20),
    "sliding_window": (1, _LARGEST_INTEGER),
    "layer_norm_eps": (1e-37, 1),
    "initializer_range": (1e-37, 1000),
    "query_key_offset_init": (-1e4, 1e4),
    "relative_position_bias_init": (-1e4, 1e4),
}
_ROPE_RANGES = {
    "rope_theta": (1.0, 1e18),
    "factor": (0.01, 1e6),
    "original_max_position_embeddings": (1.0, _LARGEST_INTEGER),
    "attention_factor": (0.01, 100),
    "beta_fast": (0.01, 1e6),
    "beta_slow": (0.01, 1e6),
    "mscale": (0.0, 1e6),
    "mscale_all_dim": (0.0, 1e6),
    "low_freq_factor": (0.01, 1e6),
    "high_freq_factor": (0.01, 1e6),
}
_MOST_LABELS = 10_000_000
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class GAUError(ValueError):
    """An error that its message explains in full: what was given, what is allowed and the way out.

    Most are values that a caller got wrong. Programs print the message alone, without a traceback.
    """


class GAUConfigError(StrictDataclassError, GAUError):
    """A field of [`GAUConfig`] has a value that it cannot have."""


def _refuses_in_one_line(cls: type) -> type:
    """Turns the errors of a strict dataclass, two lines each and no ValueErrors, into errors of ours."""

    def translated(method: Callable) -> Callable:
        @wraps(method)
        def checked(self, *arguments):
            try:
                method(self, *arguments)
            except StrictDataclassError as error:
                raise GAUConfigError(str(error.__cause__ or error)) from error.__cause__

        return checked

    cls.validate, cls.__setattr__ = translated(cls.validate), translated(cls.__setattr__)
    return cls


def _check_range(name: str, value: object, smallest: float, largest: float, alternative: str = "") -> None:
    """Also refuses NaN, which is in no range, and what is no number, or no integer where `smallest` is one."""
    types, kind = (int, "an integer") if isinstance(smallest, int) else ((int, float), "a number")
    if not isinstance(value, types) or isinstance(value, bool) or not smallest <= value <= largest:
        raise GAUConfigError(f"{name}={value!r} must be {kind} from {smallest} to {largest}{alternative}.")


@_refuses_in_one_line
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
        num_attention_heads (`int`, *optional*, defaults to 1):
            1: a gated attention unit has one head, but generic code asks for the number.
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
            constant; distances are those of places in the sequence, whatever the `position_ids` (backends that take an
            additive term: eager, sdpa, gau_blocked). `"rotary"` is the product of two
            learned vectors under rotary positions, for any length and every backend. `None`: no bias.
        relative_position_bias_init (`float`, *optional*, defaults to 1.0):
            The bias of a token with itself before training. It falls off with the distance as exp(-distance / 8),
            which `"rotary"` approximates with its frequencies up to some 20 tokens. Around 1 serves squared ReLUs,
            around 8 a softmax.
        relative_position_bias_max_distance (`int`, *optional*, defaults to 128):
            Largest distance with a number of its own for `"distance"`.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout on the embeddings and on the output of each unit.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout on the attention weights.
        classifier_dropout (`float`, *optional*):
            Dropout before the classifier; `None` means `hidden_dropout_prob`.
        classifier_pooling (`str`, *optional*, defaults to `"cls"`):
            `"cls"` takes the first real token of a sequence, `"mean"` the mean over its real tokens. `"pair"` compares
            the means u and v of the two segments by (u + v) / 2, |u - v| and u * v: for tasks on two texts, where a
            small model needs it. A single text has u = v.
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
            every layer sees the whole sequence. A window set on a finished configuration without layers of local
            attention has no effect.
        layer_types (`list[str]`, *optional*):
            For each layer `"full_attention"` or `"sliding_attention"`. With a `sliding_window`, by default every third
            layer is full, from the first one on, as in ModernBERT.
        sparse_prediction (`bool`, *optional*, defaults to `False`):
            Whether [`GAUForMaskedLM`], given labels, computes logits for the labelled positions only.
        unpad_inputs (`bool`, *optional*, defaults to `True`):
            Whether to remove padding before the layers and restore it after them: on CPUs where that saves time, on
            accelerators with FlashAttention. Results are the same up to rounding. Compiled and traced models keep
            the padding, and so do calls for hidden states or attentions, and models with hooks in their layers: these
            see `(batch, seq, hidden)`. Use `False` for code that reads hidden states inside the layers by other means
            than hooks, where it would find `(1, tokens, hidden)`.

    Raises:
        ValueError: a value of a wrong type or out of range, an unknown normalization, activation or kind of rotary
            positions, or `fixed_n` where it has no use. The message says what is allowed.

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
    num_attention_heads: int = 1
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
    classifier_pooling: Literal["cls", "mean", "pair"] = "cls"
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
        self._check_before_completion(kwargs)
        if self.sliding_window is not None and self.layer_types is None:
            kinds = ("full_attention", "sliding_attention", "sliding_attention")
            self.layer_types = [kinds[index % 3] for index in range(self.num_hidden_layers)]
        super().__post_init__(**kwargs)

    @property
    def num_labels(self) -> int | None:
        """The number of labels, that of `id2label`."""
        return super().num_labels

    @num_labels.setter
    def num_labels(self, num_labels: int):
        if isinstance(num_labels, Integral) and not isinstance(num_labels, bool):
            num_labels = int(num_labels)  # of NumPy, when labels were counted
        _check_range("num_labels", num_labels, 1, _MOST_LABELS)
        PreTrainedConfig.num_labels.fset(self, num_labels)

    def to_dict(self) -> dict[str, Any]:
        """As in the base class. A window that was set on a finished configuration has no effect on its model, nor may
        it have one on the model that is loaded."""
        output = super().to_dict()
        if output["sliding_window"] is not None and output["layer_types"] is None:
            output["layer_types"] = ["full_attention"] * self.num_hidden_layers
        return output

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
            raise GAUError(
                f"Unknown attention_normalization='{self.attention_normalization}'. "
                f"Allowed: {', '.join(NORMALIZATION_USES_N)}."
            )
        if self.fixed_n is None:
            return
        if not uses_n:
            using = [name for name, uses in NORMALIZATION_USES_N.items() if uses]
            raise GAUError(
                f"fixed_n={self.fixed_n} has no use with attention_normalization='{self.attention_normalization}', "
                f"whose weights do not depend on n. Leave it out (None), or use one of {', '.join(using)}."
            )
        _check_range("fixed_n", self.fixed_n, 1, _LARGEST_INTEGER, ", or None for each sequence's own n")

    def validate_sizes(self):
        """Numbers are in range, there is one head, the key width is even, the padding token is in the vocabulary."""
        for name, (smallest, largest) in _RANGES.items():
            value = getattr(self, name)
            if value is not None:
                _check_range(name, value, smallest, largest)
        if self.num_attention_heads != 1:
            raise GAUError(
                f"num_attention_heads={self.num_attention_heads}: a gated attention unit has exactly one head."
            )
        if self.attention_key_size % 2:
            raise GAUError(
                f"attention_key_size={self.attention_key_size} must be even: rotary positions pair neighbouring "
                "columns."
            )
        # softmax_plus divides by its log.
        _check_range("reference_length", self.reference_length, 2, _LARGEST_INTEGER)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise GAUError(f"pad_token_id={self.pad_token_id} is outside the vocabulary of {self.vocab_size} tokens.")

    def validate_windows(self):
        """Each layer has a type, and layers of local attention a window."""
        if self.sliding_window is not None and self.layer_types is None:
            logger.warning_once(
                f"sliding_window={self.sliding_window} was set on a configuration without layer_types: it has no "
                "effect, every layer sees the whole sequence. Give it when the configuration is made, or set "
                "layer_types, too."
            )
        types = self.layer_types or []  # as many as there are layers: checked by the base class
        for kind in types:
            if kind not in ("full_attention", "sliding_attention"):
                raise GAUError(f"layer_types: '{kind}' is not one of full_attention, sliding_attention.")
        if "sliding_attention" in types and self.sliding_window is None:
            raise GAUError("layer_types has 'sliding_attention': give sliding_window, tokens to either side.")

    def validate_activation(self):
        """The activation is one of transformers'."""
        if self.hidden_act not in ACT2FN:
            raise GAUError(f"Unknown hidden_act='{self.hidden_act}'. Allowed: {', '.join(ACT2FN)}.")

    def validate_rope(self):
        """The kind of rotary positions is known, its numbers are in range, and all key columns are rotated."""
        self.validate_sizes()  # the base class divides by the number of heads
        given = self.rope_parameters
        rope_type = given.get("rope_type")
        if rope_type not in ("default", *ROPE_INIT_FUNCTIONS):
            allowed = ", ".join(("default", *ROPE_INIT_FUNCTIONS))
            raise GAUError(f"Unknown rope_type='{rope_type}' in rope_parameters. Allowed: {allowed}.")
        if rope_type == "dynamic" and self.attention_key_size == 2:
            raise GAUError("rope_type='dynamic' needs an attention_key_size of at least 4, but got 2.")
        for name in _ROPE_RANGES.keys() & given.keys():
            if given[name] is None and name not in ("rope_theta", "factor"):  # as if it were not there
                continue
            _check_range(f"rope_parameters: {name}", given[name], *_ROPE_RANGES[name])
        for name in {"short_factor", "long_factor"} & given.keys():
            factors, count = given[name], self.attention_key_size // 2
            if not isinstance(factors, list) or len(factors) != count:
                raise GAUError(f"rope_parameters: {name}={factors!r} must be a list of {count} numbers.")
            for factor in factors:
                _check_range(f"rope_parameters: {name}", factor, *_ROPE_RANGES["factor"])
        if given.get("partial_rotary_factor", 1.0) != 1.0:
            raise GAUError(
                f"partial_rotary_factor={given['partial_rotary_factor']} in rope_parameters: a gated attention unit "
                "rotates all key columns. Leave it out."
            )
        try:
            super().validate_rope()
        except KeyError as error:  # a number is missing
            raise GAUError(f"rope_parameters={given}: {error.args[0]}.") from error

    def validate_labels(self):
        """There is a label at least, and the type of the problem is known."""
        if self.num_labels is not None:
            _check_range("num_labels", self.num_labels, 1, _MOST_LABELS)
        if self.problem_type not in (None, *_PROBLEM_TYPES):
            raise GAUError(f"Unknown problem_type={self.problem_type!r}. Allowed: {', '.join(_PROBLEM_TYPES)}.")
        self._check_problem(self.num_labels)

    def _check_problem(self, num_labels: int | None) -> None:
        if self.problem_type == "single_label_classification" and num_labels == 1:
            raise GAUConfigError(
                "problem_type='single_label_classification' with num_labels=1: the loss would always be 0. Give "
                "num_labels=2 for two classes, or problem_type='regression' for a score."
            )

    def validate_relative_positions(self):
        """The initial value of a rotary bias is positive."""
        if self.relative_position_bias == "rotary" and self.relative_position_bias_init <= 0:
            raise GAUError(
                f"relative_position_bias_init={self.relative_position_bias_init} must be positive with "
                "relative_position_bias='rotary': a product of two vectors of zeros would never learn."
            )

    def validate_dropout(self):
        """Dropout probabilities are in [0, 1)."""
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise GAUError(f"{name}={value} must be a probability in [0, 1).")

    def _check_before_completion(self, kwargs: dict[str, Any]) -> None:
        """The fields that others are computed from, which would take ages or fail otherwise."""
        _check_range("num_hidden_layers", self.num_hidden_layers, *_RANGES["num_hidden_layers"])
        nested = {"full_attention", "sliding_attention"} & (self.rope_parameters or {}).keys()
        if nested:
            raise GAUConfigError(
                f"rope_parameters has {', '.join(sorted(nested))}, but all layers share their rotary positions: give "
                "rope_type, rope_theta and so on themselves."
            )
        names = self.id2label
        if names is not None and not (isinstance(names, dict) and all(str(key).isdecimal() for key in names)):
            raise GAUConfigError(f"id2label={names!r} must be a dictionary of names, whose keys are 0, 1, and so on.")
        self._check_problem(kwargs.get("num_labels") if names is None else len(names))
        for given in (self.dtype, kwargs.get("torch_dtype")):
            dtype = vars(torch).get(given) if isinstance(given, str) else given
            if given is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
                raise GAUConfigError(
                    f"dtype={given!r} is no floating dtype of PyTorch, such as 'float32' or 'bfloat16'."
                )

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
