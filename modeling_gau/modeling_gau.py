# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The GAU encoder and its heads. Axes and widths are named as in `attention_gau.py`."""

import os
import shutil
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import CONFIG_NAME, TransformersKwargs, auto_docstring, logging
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention_gau import (
    ALL_ATTENTION_FUNCTIONS,
    ATTENTION_NORMALIZATIONS,
    DEFAULT_ATTENTION_BACKEND,
    attention_backend,
    attention_with_weights,
    check_attention_backend,
    eager_attention_forward,
    saturate,
    segmented_attention_forward,
)
from .configuration_gau import GAUConfig, GAUError, register_in_package
from .unpadding_gau import (
    BatchPlan,
    Layers,
    Segment,
    batch_shape,
    checked_ids,
    has_values,
    packed_documents,
    plan_batch,
    row_shape,
    split_mask,
)


logger = logging.get_logger(__name__)

# Ratio between the standard deviation of a normal distribution and that of its truncation at two standard deviations.
_TRUNCATED_NORMAL_STD = 0.8796256610342398


def _wide_dtype(tensor: torch.Tensor) -> torch.dtype:
    """float32, or float64 for a model in float64."""
    return torch.promote_types(tensor.dtype, torch.float32)


class GAURootMeanSquareNorm(nn.Module):
    """N(x) = x / sqrt(mean(x^2) + eps), without parameters, computed in float32 or wider."""

    def __init__(self, config: GAUConfig):
        super().__init__()
        self.eps = config.layer_norm_eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        wide = hidden_states.to(_wide_dtype(hidden_states))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(hidden_states.dtype)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


class GAUEmbeddings(nn.Module):
    """N(E_token + E_type), then dropout."""

    def __init__(self, config: GAUConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = GAURootMeanSquareNorm(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
    ) -> torch.Tensor:
        if inputs_embeds is None:
            inputs_embeds = self._look_up(self.word_embeddings, input_ids, "input_ids")
        if token_type_ids is None:
            # Looked up, not read from the weight: an offloaded module has its weight only while it runs.
            token_type_ids = torch.zeros(1, 1, dtype=torch.long, device=inputs_embeds.device)
        types = self._look_up(self.token_type_embeddings, token_type_ids, "token_type_ids")
        # Embeddings of a wider dtype than the model's would leave it wider.
        return self.dropout(self.norm(inputs_embeds.to(types.dtype) + types))

    @staticmethod
    def _look_up(table: nn.Embedding, ids: torch.LongTensor, name: str) -> torch.Tensor:
        try:
            return table(ids)
        except IndexError as error:  # CPU only: accelerators do not check ids
            raise GAUError(
                f"{name} must be in [0, {table.num_embeddings - 1}], the model's table of {table.num_embeddings}, but "
                f"hold values from {int(ids.min())} to {int(ids.max())}. Do tokenizer and checkpoint belong together? "
                "After adding tokens, call model.resize_token_embeddings(len(tokenizer))."
            ) from error


class GAURotaryEmbedding(nn.Module):
    """cos and sin of rotary positions from transformers' rope parameters (linear, dynamic NTK, YaRN, ...)."""

    def __init__(self, config: GAUConfig):
        super().__init__()
        self.config = config
        self.rope_type = config.rope_parameters["rope_type"]
        inv_freq, self.attention_scaling = self._initial_parameters()
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    def _initial_parameters(self) -> tuple[torch.Tensor, float]:
        if self.rope_type == "default":
            return self.compute_default_rope_parameters(self.config)
        return ROPE_INIT_FUNCTIONS[self.rope_type](self.config)

    def _apply(self, fn, recurse=True):
        """Moves the frequencies, but keeps their precision: rounded ones (`model.bfloat16()`, `--bf16_full_eval`)
        would turn far tokens to other places."""
        exact = {"inv_freq": self.inv_freq, "original_inv_freq": self.original_inv_freq}
        super()._apply(fn, recurse)
        for name, frequencies in exact.items():
            moved = getattr(self, name)
            if moved.dtype != frequencies.dtype:
                setattr(self, name, frequencies.to(moved.device))
        return self

    @torch.no_grad()
    def set_theta(self, rope_theta: float) -> None:
        """Changes the base, in the configuration too: longer sequences are often trained with a larger one."""
        self.config.rope_parameters["rope_theta"] = rope_theta
        inv_freq, self.attention_scaling = self._initial_parameters()
        self.inv_freq.copy_(inv_freq)
        self.original_inv_freq.copy_(inv_freq)

    @staticmethod
    def compute_default_rope_parameters(config: GAUConfig, *args, **kwargs) -> tuple[torch.Tensor, float]:
        """Frequencies theta^(-2j/s) for j < s/2, with s = `attention_key_size`, and the scale 1 of cos and sin."""
        exponents = torch.arange(0, config.attention_key_size, 2, dtype=torch.float) / config.attention_key_size
        return config.rope_parameters["rope_theta"] ** -exponents, 1.0

    @torch.no_grad()
    def forward(
        self, hidden_states: torch.Tensor, position_ids: torch.LongTensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, each `(batch or 1, seq, key_dim / 2)` in float32 or wider, for `position_ids` of `(batch or 1,
        seq)`."""
        inv_freq, attention_scaling = self.inv_freq, self.attention_scaling
        if self.rope_type in ("dynamic", "longrope"):
            # Uses this batch's length alone. With transformers' `dynamic_rope_update`, which keeps the longest length
            # so far, outputs would depend on earlier batches.
            inv_freq, attention_scaling = ROPE_INIT_FUNCTIONS[self.rope_type](
                self.config, position_ids.device, seq_len=position_ids.max() + 1
            )
        dtype = _wide_dtype(hidden_states)
        angles = position_ids[..., None].to(hidden_states.device, dtype) * inv_freq.to(hidden_states.device, dtype)
        return angles.cos() * attention_scaling, angles.sin() * attention_scaling


def apply_rotary_positions(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the pairs of neighbouring columns (2j, 2j + 1).

    Most models in transformers pair (j, j + s/2). That is another model unless the key columns are permuted.

    Args:
        states: `(batch, seq, key_dim)`; cos, sin: `(batch or 1, seq, key_dim / 2)`.
    """
    even, odd = states.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


class GAUScaleOffset(nn.Module):
    """x * gamma (+ beta), column by column: turns the shared base into query or key."""

    def __init__(self, config: GAUConfig):
        super().__init__()
        has_offset = config.use_bias or config.query_key_offset_init is not None
        self.weight = nn.Parameter(torch.ones(config.attention_key_size))
        self.bias = nn.Parameter(torch.empty(config.attention_key_size)) if has_offset else None

    def forward(self, base: torch.Tensor) -> torch.Tensor:
        scaled = base * self.weight
        return scaled if self.bias is None else scaled + self.bias


# Distance over which a relative position bias falls by a factor e before training.
_BIAS_REACH = 8.0


class GAUDistanceBias(nn.Module):
    """A number b for each distance j - i of key and query, constant beyond the longest (Hua et al. 2022)."""

    def __init__(self, config: GAUConfig):
        super().__init__()
        self.longest = config.relative_position_bias_max_distance
        self.weight = nn.Parameter(torch.empty(2 * self.longest + 1))

    @torch.no_grad()
    def reset(self, config: GAUConfig) -> None:
        distances = torch.arange(-self.longest, self.longest + 1)
        init.copy_(self.weight, config.relative_position_bias_init * (-distances.abs() / _BIAS_REACH).exp())

    def forward(self) -> torch.Tensor:
        """The table, for backends. A call, since an offloaded module has its weight only while it runs."""
        return self.weight

    def at(self, distances: torch.LongTensor) -> torch.Tensor:
        """The biases of distances j - i."""
        return self()[distances.clamp(-self.longest, self.longest) + self.longest]


class GAURotaryBias(nn.Module):
    """b_ij = (R_i a) . (R_j b) with learned vectors a, b and the rotation R of rotary positions (Hua et al. 2022)."""

    def __init__(self, config: GAUConfig):
        super().__init__()
        self.query = nn.Parameter(torch.empty(config.attention_key_size))
        self.key = nn.Parameter(torch.empty(config.attention_key_size))

    @torch.no_grad()
    def reset(self, config: GAUConfig) -> None:
        # exp(-d / r) as an integral over cosines of d has the density 1 / (1 + (r f)^2) of the frequency f; the
        # frequencies are evenly spaced on a logarithmic scale, which gives another factor f.
        frequencies, _ = GAURotaryEmbedding.compute_default_rope_parameters(config)
        shares = frequencies / (1 + (_BIAS_REACH * frequencies) ** 2)
        # Both columns of a pair add their product once.
        start = (config.relative_position_bias_init * shares / shares.sum() / 2).sqrt().repeat_interleave(2)
        for vector in (self.query, self.key):
            init.copy_(vector, start)

    def forward(self, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns for query and key, `(batch or 1, seq, key_dim)`, whose products are the bias."""
        query, key = (vector.to(cos.dtype).expand(*cos.shape[:2], -1) for vector in (self.query, self.key))
        return apply_rotary_positions(query, cos, sin), apply_rotary_positions(key, cos, sin)


_RELATIVE_POSITION_BIASES = {"distance": GAUDistanceBias, "rotary": GAURotaryBias}


def _shift_columns(shift: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns for query and key, `(batch or 1, seq or 1, 2)`, whose products are `shift` `(batch or 1, seq or 1, 1)`:
    in a narrow dtype the second one adds what the first loses by rounding."""
    rounded = shift.to(dtype).to(shift.dtype)
    return torch.cat((rounded, shift - rounded), -1), shift.new_ones(1, 1, 2)


class GatedAttentionUnit(nn.Module):
    """(u * (A v)) W_o with u, v, base = SiLU(x W_i) (Hua et al. 2022; kexue.fm/archives/8934)."""

    def __init__(self, config: GAUConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = False
        self.attention_dropout = config.attention_probs_dropout_prob
        self.widths = (config.intermediate_size, config.intermediate_size, config.attention_key_size)
        self.scaling = config.attention_key_size**-0.5
        self.is_local = config.layer_types is not None and config.layer_types[layer_idx] == "sliding_attention"
        self.i_dense = nn.Linear(config.hidden_size, sum(self.widths), bias=config.use_bias)
        self.activation = ACT2FN[config.hidden_act]
        self.q_scaleoffset = GAUScaleOffset(config)
        self.k_scaleoffset = GAUScaleOffset(config)
        self.o_dense = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.use_bias)
        normalization, bias = ATTENTION_NORMALIZATIONS[config.attention_normalization], config.relative_position_bias
        self.position_bias = None if bias is None else _RELATIVE_POSITION_BIASES[bias](config)
        self.attention_scale = nn.Parameter(torch.empty(1)) if normalization.learned_scale else None
        self.attention_sink = nn.Parameter(torch.empty(1)) if normalization.sink else None

    @property
    def sliding_window(self) -> int | None:
        """For attention functions: the largest visible distance plus 1."""
        return self.config.sliding_window + 1 if self.is_local else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        query_factor: torch.Tensor | None = None,
        score_shift: torch.Tensor | None = None,
        segments: tuple[Segment, ...] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states: `(batch, seq, hidden)`.
            position_embeddings: cos and sin of the rotary positions.
            attention_mask: in the backend's form.
            query_factor: `(batch or 1, seq or 1, 1)`, the normalization's function of n; `None` for 1.
            score_shift: `(batch or 1, seq or 1, 1)`, what it adds to the scores of each query; `None` for 0.
            segments: replace the mask for sequences laid end to end, `(1, tokens, hidden)`.

        Returns:
            `(batch, seq, hidden)`, and the attention weights `(batch, 1, seq, seq)` if the backend returns them.
        """
        self._check_learned()
        gate, value, base = self.activation(self.i_dense(hidden_states)).split(self.widths, dim=-1)
        query, key = self.query_and_key(base, position_embeddings)
        # Rotated and scaled in float32 and rounded once. Scaling the narrow query is cheaper than scaling the scores.
        query, key = self.scaled(query, key, position_embeddings, query_factor, score_shift, value.dtype)
        query, key = query.to(value.dtype), key.to(value.dtype)

        name = self.config._attn_implementation
        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
        if kwargs.get("output_attentions", self.config.output_attentions):
            attention_interface = attention_with_weights(name, attention_mask)
        if self.sliding_window is not None:
            kwargs["sliding_window"] = self.sliding_window
        if isinstance(self.position_bias, GAUDistanceBias):
            kwargs["distance_bias"] = self.position_bias()
        if self.attention_sink is not None:
            kwargs["sink"] = self.attention_sink
        if segments is not None:
            attention_interface = partial(segmented_attention_forward, attention_interface, segments)
        attended, weights = attention_interface(
            self,
            query.unsqueeze(1),
            key.unsqueeze(1),
            value.unsqueeze(1),
            attention_mask,
            scaling=1.0,
            dropout=self.attention_dropout if self.training else 0.0,
            **kwargs,
        )
        return saturate(self.o_dense(saturate(gate * attended.squeeze(2)))), weights

    def _check_learned(self) -> None:
        """Raises ValueError if a field was changed to or from a value with parameters of its own."""
        normalization = ATTENTION_NORMALIZATIONS[self.config.attention_normalization]
        bias = self.config.relative_position_bias
        learned = {
            f"attention_normalization='{self.config.attention_normalization}'": (
                (self.attention_scale is not None, self.attention_sink is not None)
                == (normalization.learned_scale, normalization.sink)
            ),
            f"relative_position_bias={bias!r}": (
                type(self.position_bias) is (type(None) if bias is None else _RELATIVE_POSITION_BIASES[bias])
            ),
        }
        for setting, fits in learned.items():
            if not fits:
                raise GAUError(
                    f"{setting} was set on a finished model, but it, or the value before, has learned parameters in "
                    "each layer. Load the checkpoint with from_pretrained(..., field=value) instead."
                )

    def query_and_key(
        self, base: torch.Tensor, position_embeddings: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the shared base, each `(batch, seq, key_dim)` in float32 or wider; not scaled yet."""
        base, (cos, sin) = base.to(_wide_dtype(base)), position_embeddings
        query = apply_rotary_positions(self.q_scaleoffset(base), cos, sin)
        return query, apply_rotary_positions(self.k_scaleoffset(base), cos, sin)

    def scaled(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        query_factor: torch.Tensor | None,
        score_shift: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key whose products are the scores with all their factors and terms (but for a bias by distance),
        `(batch, seq, key_dim or more)`: terms are further columns. `dtype` is what the caller rounds them to."""
        scaling = self.scaling if query_factor is None else query_factor * self.scaling
        if self.attention_scale is not None:
            scaling = scaling * self.attention_scale
        columns = [(query * scaling, key)]
        if isinstance(self.position_bias, GAURotaryBias):
            columns.append(self.position_bias(*position_embeddings))
        if score_shift is not None:
            columns.append(_shift_columns(score_shift, dtype))
        if len(columns) == 1:
            return columns[0]
        shape = query.shape[:2]
        queries, keys = zip(*columns, strict=True)
        return tuple(torch.cat([part.expand(*shape, -1) for part in parts], -1) for parts in (queries, keys))


class GAULayer(GradientCheckpointingLayer):
    """x <- N(x + dropout(GAU(x)))."""

    def __init__(self, config: GAUConfig, layer_idx: int):
        super().__init__()
        self.gau = GatedAttentionUnit(config, layer_idx)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = GAURootMeanSquareNorm(config)
        self.attention_type = "full_attention" if config.layer_types is None else config.layer_types[layer_idx]

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        output, _ = self.gau(hidden_states, **kwargs)
        return self.norm(hidden_states + self.dropout(output))


def give_usual_permissions(folder: str | os.PathLike) -> None:
    """Gives weights the permissions of the configuration beside them: safetensors may leave them to their owner."""
    usual = Path(folder) / CONFIG_NAME
    for weights in Path(folder).glob("*model*.safetensors") if usual.is_file() else ():
        if weights.stat().st_mode != usual.stat().st_mode:
            shutil.copymode(usual, weights)


@auto_docstring(custom_intro="What the GAU encoder and its heads share: weights at the start, loading and saving.")
class GAUPreTrainedModel(PreTrainedModel):
    config: GAUConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GAUEmbeddings", "GAULayer"]
    _input_embed_layer = "word_embeddings"
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _one_answer_per_row = False
    _can_record_outputs = {"hidden_states": GAULayer, "attentions": GatedAttentionUnit}

    def __init__(self, config: GAUConfig, *inputs, **kwargs):
        config.validate()  # fields may have been changed since the configuration was made
        super().__init__(config, *inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """As in the base class, but `auto_map` names every class, not only this one: a pretrained checkpoint can be
        fine-tuned where this package is not installed."""
        if self.is_remote_code() and type(self).__module__ == __name__:
            file = __name__.rpartition(".")[2]
            self.config.auto_map = {auto: f"{file}.{kind.__name__}" for auto, kind in AUTO_CLASSES.items()}
        super().save_pretrained(save_directory, *args, **kwargs)
        give_usual_permissions(save_directory)

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Chooses the default if no backend is requested. Raises if one cannot work, and names those that can."""
        if requested_attention is None:
            return DEFAULT_ATTENTION_BACKEND
        check_attention_backend(requested_attention, self.config)
        return super().get_correct_attn_implementation(requested_attention, is_init_check)

    def _encode(
        self,
        input_ids: torch.LongTensor | None,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.LongTensor | None,
        position_ids: torch.LongTensor | None,
        inputs_embeds: torch.FloatTensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """The encoder's outputs, for a head."""
        if self._one_answer_per_row:
            shape = row_shape(input_ids, inputs_embeds)
            position_ids = checked_ids("position_ids", position_ids, shape)
            packed = packed_documents(shape, attention_mask, position_ids, kwargs) is not None
            if packed or kwargs.get("document_ids") is not None:
                raise GAUError(
                    f"{type(self).__name__} gives one answer per row, but this row packs several sequences. Give "
                    "padded rows with an attention_mask instead."
                )
        return self.model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Truncated normal whose standard deviation is layers^(-1/3) / sqrt(fan-in) (kexue.fm/archives/8990), or
        `initializer_range`; scale 1 and the configured offset for queries and keys."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            self._init_matrix(module.weight, module.in_features)
        elif isinstance(module, nn.Embedding):
            self._init_matrix(module.weight, module.embedding_dim)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, GAUScaleOffset):
            init.ones_(module.weight)
            if module.bias is not None:
                init.constant_(module.bias, self.config.query_key_offset_init or 0.0)
        elif isinstance(module, (GAUDistanceBias, GAURotaryBias)):
            module.reset(self.config)
        elif isinstance(module, GatedAttentionUnit):
            if module.attention_scale is not None:
                init.ones_(module.attention_scale)
            if module.attention_sink is not None:
                init.zeros_(module.attention_sink)

    def _init_matrix(self, weight: nn.Parameter, fan_in: int) -> None:
        std = self.config.initializer_range
        if std is None:
            std = self.config.num_hidden_layers ** (-1 / 3) * fan_in**-0.5
        std = std / _TRUNCATED_NORMAL_STD
        init.trunc_normal_(weight, mean=0.0, std=std, a=-2 * std, b=2 * std)


@auto_docstring(custom_intro="The GAU encoder: hidden states of every token, without a head.")
class GAUModel(GAUPreTrainedModel):
    def __init__(self, config: GAUConfig):
        super().__init__(config)
        self.embeddings = GAUEmbeddings(config)
        self.rotary_emb = GAURotaryEmbedding(config)
        self.layers = nn.ModuleList([GAULayer(config, index) for index in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding):
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        document_ids: torch.LongTensor | None = None,
        cu_seq_lens_q: torch.LongTensor | None = None,
        cu_seq_lens_k: torch.LongTensor | None = None,
        max_length_q: int | None = None,
        max_length_k: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        r"""
        attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
            1 (or `True`) for real tokens, 0 for padding; n is each row's sum. A prepared mask of shape
            `(batch_size or 1, 1, sequence_length or 1, sequence_length)`, boolean (`True` is visible) or additive, is
            used as it is, and n is then the number of keys that each position sees: block-diagonal masks keep packed
            documents apart, each with its own n. Let `position_ids` restart with each document in that case. An
            additive mask joins the scores after their factor of n (for `squared_relu`, that is n^(-1/2)). Other values
            are refused, except in a mask of integers on an accelerator, which is not read.
            Hidden states at the padding of a 2-D mask are 0.
        position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
            Positions of the tokens for the rotary embedding; `relative_position_bias="distance"` goes by places in the
            sequence instead. Without an `attention_mask`, positions that restart within a single row mark it as
            packed: its sequences do not see each other (`DataCollatorWithFlattening`). A compiled or traced model does
            not read positions: give it `cu_seq_lens_q`.
        document_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Packed rows: equal numbers for the tokens of one document of a row, which stand together, and 0 for
            padding. Documents do not see each other, each has its own n, and positions restart with each of them where
            no `position_ids` are given. Replaces `attention_mask`. The model computes document by document where that
            saves time, and with a mask elsewhere; hidden states at padding are 0.
        cu_seq_lens_q (`torch.IntTensor` of shape `(sequences + 1,)`, *optional*):
            Marks the packed sequences of a single row by their first tokens and the end of the last one, as for
            FlashAttention. Positions restart with each sequence unless `position_ids` are given. A backend that cannot
            keep the sequences of a row apart raises an error.
        cu_seq_lens_k (`torch.IntTensor` of shape `(sequences + 1,)`, *optional*):
            The same as `cu_seq_lens_q`.
        max_length_q (`int`, *optional*):
            Length of the longest sequence. Only a compiled or traced model with FlashAttention needs it.
        max_length_k (`int`, *optional*):
            The same as `max_length_q`.
        """
        shape = row_shape(input_ids, inputs_embeds)
        input_ids = checked_ids("input_ids", input_ids, shape)
        token_type_ids = checked_ids("token_type_ids", token_type_ids, shape)
        width = self.config.hidden_size
        if inputs_embeds is not None and (inputs_embeds.shape[-1] != width or not inputs_embeds.is_floating_point()):
            raise GAUError(
                f"inputs_embeds is {inputs_embeds.dtype} of shape {tuple(inputs_embeds.shape)}; it must be floating, "
                f"and its last size the model's hidden_size {width}."
            )
        if input_ids is not None and document_ids is None:
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        if not torch.compiler.is_compiling():
            # Users set `model.config.fixed_n = 512` on a finished model, since it affects the forward pass only.
            self.config.validate_attention_normalization()
            check_attention_backend(self.config._attn_implementation, self.config)

        layers = self._facts_of_layers(kwargs)
        plan = plan_batch(
            layers,
            input_ids if input_ids is not None else inputs_embeds,
            attention_mask,
            position_ids,
            document_ids,
            cu_seq_lens_q=cu_seq_lens_q,
            cu_seq_lens_k=cu_seq_lens_k,
            max_length_q=max_length_q,
            max_length_k=max_length_k,
        )
        hidden_states = self.embeddings(*plan.take_inputs(input_ids, token_type_ids, inputs_embeds))
        position_embeddings = self.rotary_emb(hidden_states, plan.position_ids)
        arguments = plan.attention_arguments(layers, hidden_states)
        uses_of_n = {kind: self._uses_of_n(plan, window, hidden_states) for kind, window in layers.windows.items()}

        hidden_states, *position_embeddings = plan.take(hidden_states, *position_embeddings)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                position_embeddings=tuple(position_embeddings),
                **uses_of_n[layer.attention_type],
                **arguments[layer.attention_type],
                **kwargs,
            )
        return BaseModelOutput(last_hidden_state=plan.put_back(hidden_states))

    def _facts_of_layers(self, recorded: dict) -> Layers:
        return Layers(
            config=self.config,
            types=tuple(layer.attention_type for layer in self.layers),
            backend=attention_backend(self.config._attn_implementation),
            plain=all(map(_is_plain, self.layers)),
            attentions=bool(recorded.get("output_attentions", self.config.output_attentions)),
            hidden_states=bool(recorded.get("output_hidden_states", self.config.output_hidden_states)),
            modules=self.layers,
        )

    def _uses_of_n(self, plan: BatchPlan, window: int | None, hidden_states: torch.Tensor) -> dict[str, torch.Tensor]:
        """The normalization's functions of n, each `(batch or 1, seq or 1, 1)` in float32 or wider.

        n is at least 1, so that rows without a real token stay finite (their weights are 0 anyway).
        """
        normalization = ATTENTION_NORMALIZATIONS[self.config.attention_normalization]
        if not normalization.uses_n:
            return {}
        n = plan.key_count(window) if self.config.fixed_n is None else torch.full((1, 1, 1), self.config.fixed_n)
        n = n.to(hidden_states.device, _wide_dtype(hidden_states)).clamp(min=1)
        uses = {}
        if normalization.query_factor is not None:
            uses["query_factor"] = normalization.query_factor(n, self.config)
        if normalization.score_shift is not None:
            uses["score_shift"] = normalization.score_shift(n)
        return uses


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is neither compiled nor wrapped."""
    if not isinstance(layer, GAULayer) or not isinstance(layer.gau, GatedAttentionUnit):
        return False
    return layer._compiled_call_impl is None and layer.gau._compiled_call_impl is None


def _checked_class_ids(
    labels: torch.Tensor, *shapes: tuple[int, ...], classes: int | None, name: str = "labels", ignored: int = -100
) -> torch.LongTensor:
    """Labels as int64 in the first of the shapes; a ValueError unless they have one of them and are in
    [0, classes - 1], if given, or `ignored`.

    Values on an accelerator are not read, since it would have to wait for them in every step.
    """
    if not isinstance(labels, torch.Tensor) or labels.dtype not in (torch.int64, torch.uint8):
        kind = labels.dtype if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise GAUError(f"{name} must be a tensor of int64, but got {kind}. Convert class ids with .long().")
    if labels.shape not in shapes:
        allowed = " or ".join(str(tuple(shape)) for shape in shapes)
        raise GAUError(f"{name} has shape {tuple(labels.shape)}, but must have {allowed}.")
    labels = labels.long().reshape(shapes[0]).contiguous()  # the losses of transformers take views
    if classes is None or labels.device.type != "cpu" or not has_values(labels):
        return labels
    if bool(((labels != ignored) & ((labels < 0) | (labels >= classes))).any()):
        raise GAUError(
            f"{name} must be in [0, {classes - 1}], or {ignored} where there is none, but hold values from "
            f"{labels.min()} to {labels.max()}."
        )
    return labels


def _shapes_of_tokens(hidden_states: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    """Shapes of labels for each token, in rows or flattened."""
    batch, seq = hidden_states.shape[:2]
    return (batch, seq), (batch * seq,)


@auto_docstring(custom_intro="The GAU encoder with a masked-language-model head: its word embeddings, transposed.")
class GAUForMaskedLM(GAUPreTrainedModel):
    _tied_weights_keys = {"decoder.weight": "model.embeddings.word_embeddings.weight"}

    def __init__(self, config: GAUConfig):
        super().__init__(config)
        self.model = GAUModel(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear):
        self.decoder = new_embeddings

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor] | MaskedLMOutput:
        r"""
        position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
            As in [`GAUModel`].
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)` or flattened, *optional*):
            Token ids to predict, -100 where there is none. A batch without any gives the loss 0. With
            `config.sparse_prediction` the logits are those of the labelled positions only,
            `(number of labelled positions, vocab_size)` in row order.
        num_items_in_batch (`int`, *optional*):
            Number of labelled positions that the summed loss is divided by; the batch's own by default.
        """
        outputs = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        hidden_states = outputs.last_hidden_state
        if labels is not None:
            ignored = kwargs.get("ignore_index", -100)  # for the loss
            shapes = _shapes_of_tokens(hidden_states)
            labels = _checked_class_ids(labels, *shapes, classes=self.config.vocab_size, ignored=ignored)
        if labels is not None and self.config.sparse_prediction:
            labelled = labels != -100
            hidden_states, labels = hidden_states[labelled], labels[labelled]
        logits = self.decoder(hidden_states)

        loss = None
        if labels is not None:
            if num_items_in_batch is None:
                num_items_in_batch = (labels != -100).sum()
            num_items_in_batch = torch.as_tensor(num_items_in_batch).clamp(min=1)
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch, **kwargs
            )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class GAUPooler(nn.Module):
    """One vector per sequence, then dropout.

    `"cls"` is the first real token, `"mean"` the mean over real ones. `"pair"` compares the two segments of a row as
    InferSent does (arxiv.org/abs/1705.02364): (u + v) / 2, |u - v| and u * v, three times as wide, where u = N(mean of
    the tokens of type 0) and v = N(mean of the others). A row with one segment has u = v = N(its mean).
    """

    def __init__(self, config: GAUConfig):
        super().__init__()
        self.pooling = config.classifier_pooling
        self.width = config.hidden_size * (3 if self.pooling == "pair" else 1)
        self.norm = GAURootMeanSquareNorm(config)
        self.dropout = _classifier_dropout(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`(batch, width)` from `(batch, seq, hidden)`; by a 4-D mask the tokens that some position sees are real."""
        if attention_mask is None:
            real = hidden_states.new_ones(1, hidden_states.shape[1], dtype=torch.bool).expand(hidden_states.shape[:2])
        elif attention_mask.ndim == 4:
            real = split_mask(attention_mask)[1].any(2).squeeze(1).expand(hidden_states.shape[:2])
        else:
            real = attention_mask != 0
        real = real.to(hidden_states.device)
        if self.pooling == "mean":
            return self.dropout(_mean(hidden_states, real))
        if self.pooling == "pair":
            return self.dropout(self._compared(hidden_states, real, token_type_ids))
        rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
        return self.dropout(hidden_states[rows, real.int().argmax(-1)])

    def _compared(self, hidden_states, real, token_type_ids):
        if token_type_ids is None:
            first = second = self.norm(_mean(hidden_states, real))
        else:
            types = token_type_ids.to(real.device)
            is_first, is_second = real & (types == 0), real & (types != 0)
            # A segment without tokens is the whole row. ONNX Runtime has no `where` of booleans.
            first = _mean(hidden_states, is_first | real & ~is_first.any(-1, keepdim=True))
            second = _mean(hidden_states, is_second | real & ~is_second.any(-1, keepdim=True))
            first, second = self.norm(first), self.norm(second)
        return torch.cat(((first + second) / 2, (first - second).abs(), first * second), -1)


def _mean(hidden_states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """`(batch, hidden)`, the mean over chosen tokens, `(batch, seq)`, computed in float32 or wider."""
    chosen = chosen.to(_wide_dtype(hidden_states)).unsqueeze(-1)
    return ((hidden_states * chosen).sum(1) / chosen.sum(1).clamp(min=1)).to(hidden_states.dtype)


def _classifier_dropout(config: GAUConfig) -> nn.Dropout:
    return nn.Dropout(config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout)


@auto_docstring(
    custom_intro="The GAU encoder with a linear head on the pooled sequence, for classification and regression."
)
class GAUForSequenceClassification(GAUPreTrainedModel):
    # Otherwise the Trainer assumes that the loss is already divided by the number of items in the whole step.
    # Regression and multi-label losses are not: gradients would grow with accumulation steps and processes.
    accepts_loss_kwargs = False
    _one_answer_per_row = True

    def __init__(self, config: GAUConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = GAUModel(config)
        self.pooler = GAUPooler(config)
        self.classifier = nn.Linear(self.pooler.width, config.num_labels)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor] | SequenceClassifierOutput:
        r"""
        position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
            As in [`GAUModel`].
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class ids, float targets (`num_labels` 1, or `problem_type="regression"`) or multi-label targets from 0 to
            1; integers are these with `problem_type="multi_label_classification"`.
        """
        outputs = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.pooler(outputs.last_hidden_state, attention_mask, token_type_ids))
        loss = None
        if labels is not None:
            labels = self._checked(labels, logits)
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _checked(self, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Labels in the form of the loss; a ValueError for those that it would broadcast or could not take."""
        if not isinstance(labels, torch.Tensor):
            raise GAUError(f"labels must be a tensor, but got {type(labels).__name__}.")
        labels = labels if labels.ndim else labels.unsqueeze(0)  # of a single row
        (batch, classes), problem = logits.shape, self.config.problem_type
        of_rows, of_classes = ((batch,), (batch, 1)), ((batch, classes),)
        if problem is None and classes > 1 and not labels.is_floating_point():
            problem = "single_label_classification"
            if tuple(labels.shape) == (batch, classes):
                raise GAUError(
                    f"labels are integers of shape {(batch, classes)}, but class ids have shape {(batch,)}. For "
                    'multi-label targets set config.problem_type = "multi_label_classification".'
                )
        if problem == "single_label_classification":
            return _checked_class_ids(labels, *of_rows, classes=classes)
        shapes = of_rows if classes == 1 and problem != "multi_label_classification" else of_classes
        if tuple(labels.shape) not in shapes:
            raise GAUError(f"labels has shape {tuple(labels.shape)}, but must have {' or '.join(map(str, shapes))}.")
        is_regression = problem == "regression" or (problem is None and classes == 1)
        if labels.device.type == "cpu" and has_values(labels):
            allowed = labels.isfinite() if is_regression else (labels >= 0) & (labels <= 1)
            if not bool(allowed.all()):
                kind = "finite numbers" if is_regression else "from 0 to 1, the multi-label targets of each class"
                raise GAUError(f"labels must be {kind}, but hold values from {labels.min()} to {labels.max()}.")
        return labels if is_regression or labels.is_floating_point() else labels.to(logits.dtype)


@auto_docstring(custom_intro="The GAU encoder with a linear head on every token, such as for named entities.")
class GAUForTokenClassification(GAUPreTrainedModel):
    def __init__(self, config: GAUConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = GAUModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor] | TokenClassifierOutput:
        r"""
        position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
            As in [`GAUModel`].
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)` or flattened, *optional*):
            Class ids in `[0, num_labels - 1]`, -100 where there is none.
        """
        outputs = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            ignored = kwargs.get("ignore_index", -100)  # for the loss
            shapes = _shapes_of_tokens(logits)
            labels = _checked_class_ids(labels, *shapes, classes=self.config.num_labels, ignored=ignored)
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


@auto_docstring(custom_intro="The GAU encoder with a span head for extractive question answering.")
class GAUForQuestionAnswering(GAUPreTrainedModel):
    # As in `GAUForSequenceClassification`: this loss is the batch's mean.
    accepts_loss_kwargs = False
    _one_answer_per_row = True

    def __init__(self, config: GAUConfig):
        super().__init__(config)
        self.model = GAUModel(config)
        self.dropout = _classifier_dropout(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        start_positions: torch.LongTensor | None = None,
        end_positions: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor] | QuestionAnsweringModelOutput:
        r"""
        position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
            As in [`GAUModel`].
        """
        outputs = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_logits, end_logits = self.qa_outputs(self.dropout(outputs.last_hidden_state)).unbind(-1)
        loss = None
        if (start_positions is None) != (end_positions is None):
            missing = "start_positions" if start_positions is None else "end_positions"
            raise GAUError(f"A loss needs start_positions and end_positions, but {missing} is missing.")
        if start_positions is not None:
            shapes = (start_logits.shape[:1], (start_logits.shape[0], 1))
            # Positions outside the row are ignored.
            start_positions = _checked_class_ids(start_positions, *shapes, classes=None, name="start_positions")
            end_positions = _checked_class_ids(end_positions, *shapes, classes=None, name="end_positions")
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions, **kwargs)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


@auto_docstring(
    custom_intro="The GAU encoder with a linear head that scores each choice of a multiple-choice question."
)
class GAUForMultipleChoice(GAUPreTrainedModel):
    # As in `GAUForSequenceClassification`: this loss is the batch's mean.
    accepts_loss_kwargs = False
    _one_answer_per_row = True

    def __init__(self, config: GAUConfig):
        super().__init__(config)
        self.model = GAUModel(config)
        self.pooler = GAUPooler(config)
        self.classifier = nn.Linear(self.pooler.width, 1)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor] | MultipleChoiceModelOutput:
        r"""
        input_ids (`torch.LongTensor` of shape `(batch_size, num_choices, sequence_length)`):
            Token ids; the other inputs have the same leading axes.
        position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
            As in [`GAUModel`].
        labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Index of the right choice.
        """
        shape = batch_shape(input_ids, inputs_embeds)
        if len(shape) != 3:
            raise GAUError(f"Multiple choice takes inputs of shape (batch, num_choices, seq), but got {shape}.")

        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
        }
        inputs = {name: self._rows(name, given, shape) for name, given in inputs.items()}
        outputs = self._encode(**inputs, **kwargs)
        pooled = self.pooler(outputs.last_hidden_state, inputs["attention_mask"], inputs["token_type_ids"])
        scores = self.classifier(pooled)
        logits = scores.view(*shape[:2])
        loss = None
        if labels is not None:
            labels = _checked_class_ids(labels, shape[:1], classes=shape[1])
            loss = nn.functional.cross_entropy(logits, labels.to(logits.device))
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    @staticmethod
    def _rows(name: str, given: torch.Tensor | None, shape: tuple[int, int, int]) -> torch.Tensor | None:
        """`(batch * num_choices, ...)` from `(batch, num_choices, ...)`, or one row of ids that stands for all."""
        if given is None:
            return None
        if not isinstance(given, torch.Tensor):
            raise GAUError(f"{name} must be a tensor, but got {type(given).__name__}.")
        if given.ndim > 2 and tuple(given.shape[:2]) == shape[:2]:
            return given.flatten(0, 1)
        if name in ("position_ids", "token_type_ids") and tuple(given.shape) in (shape[2:], (1, shape[2])):
            return given
        raise GAUError(
            f"{name} has shape {tuple(given.shape)}; for inputs of shape {shape} it must begin with {shape[:2]}."
        )


# The class that each of transformers' Auto classes loads.
AUTO_CLASSES = {
    "AutoModel": GAUModel,
    "AutoModelForMaskedLM": GAUForMaskedLM,
    "AutoModelForMultipleChoice": GAUForMultipleChoice,
    "AutoModelForQuestionAnswering": GAUForQuestionAnswering,
    "AutoModelForSequenceClassification": GAUForSequenceClassification,
    "AutoModelForTokenClassification": GAUForTokenClassification,
}

register_in_package(__name__)

__all__ = [
    "AUTO_CLASSES",
    "GAUForMaskedLM",
    "GAUForMultipleChoice",
    "GAUForQuestionAnswering",
    "GAUForSequenceClassification",
    "GAUForTokenClassification",
    "GAUModel",
    "GAUPreTrainedModel",
]
