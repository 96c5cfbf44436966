# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Exports a checkpoint for serving, as ONNX or torch.export, for any batch size and length, in float32 or int8.

    python -m modeling_gau.export --model_name_or_path my-sst2 --output_dir my-sst2-onnx --format onnx
    python -m modeling_gau.export --model_name_or_path my-sst2 --output_dir my-sst2-int8 --quantize int8

The directory holds the program (`model.onnx` or `model.pt2`), `config.json` and the tokenizer's files, where ONNX
servers of Hugging Face checkpoints look for them. Before it fills the directory, the tool runs the program on padded
batches of other shapes than the traced one and compares it with the model.
"""

# transformers.exporters is not used: its interface changed between 5.17 and 5.24, it requires torch 2.11, and it would
# replace only the calls of torch.export and torch.onnx below.

import copy
import importlib.util
import inspect
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .attention_gau import ATTENTION_NORMALIZATIONS, DEFAULT_ATTENTION_BACKEND, eager_attention_forward
from .configuration_gau import GAUConfig, GAUError
from .modeling_gau import (
    GatedAttentionUnit,
    GAUDistanceBias,
    GAUForMultipleChoice,
    GAUForSequenceClassification,
    GAUPreTrainedModel,
)
from .runs.command_line import run_program
from .runs.models import check_fit, load_tokenizer, load_with_misfits, read_config
from .runs.recipes import parse_arguments


# Pipeline task -> (suffix of its model classes, Auto class).
TASKS = {
    "fill-mask": ("ForMaskedLM", AutoModelForMaskedLM),
    "text-classification": ("ForSequenceClassification", AutoModelForSequenceClassification),
    "token-classification": ("ForTokenClassification", AutoModelForTokenClassification),
    "question-answering": ("ForQuestionAnswering", AutoModelForQuestionAnswering),
    "multiple-choice": ("ForMultipleChoice", AutoModelForMultipleChoice),
    "feature-extraction": ("Model", AutoModel),
}
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
# Largest ||program - model|| / ||model|| of an output. float32 differs only in the order of sums. The int8 bound only
# catches broken programs: on the random tokens of the check a sound one is up to 0.1 off, on text 0.02.
TOLERANCES = {None: 1e-4, "int8": 0.3}
_POOLED = (GAUForMultipleChoice, GAUForSequenceClassification)
# Narrower weights stay in float32: a classifier costs nothing, and its rounding would go straight into the answer.
_MIN_QUANTIZED_COLUMNS = 64

Program = Callable[[Mapping[str, Any]], dict[str, torch.Tensor]]


class ExportError(GAUError, RuntimeError):
    """The exported program does not compute what the model does. Nothing was written."""


@dataclass(frozen=True)
class ExportedModel:
    """Result of [`export_model`].

    Args:
        path: the program.
        difference: largest ||program - model|| / ||model|| of an output, over all compared batches.
        tolerance: the largest difference allowed.
    """

    path: Path
    difference: float
    tolerance: float


# The exported module


class _ServedModel(nn.Module):
    """The model with a plain dict as output, so that the program loads without transformers."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return dict(self.model(**{name: value for name, value in inputs.items() if value is not None}))


class _ServedGatedAttentionUnit(GatedAttentionUnit):
    """A unit that computes the same with fewer and cheaper operators, since ONNX Runtime runs them one by one.

    Query and key are rotated together, in halves instead of pairs of neighbours; attention has no axis of heads. With
    `first_only`, the output is that of each row's first real token, `(batch, 1, hidden)`, and in the layer's sum
    correct for that token alone.
    """

    def __init__(self, unit: GatedAttentionUnit, first_only: bool = False):
        super().__init__(unit.config, unit.layer_idx)
        for name, module in unit.named_children():
            setattr(self, name, module)
        self.attention_scale, self.attention_sink = unit.attention_scale, unit.attention_sink
        # By places in the sequence, which full attention without a distance bias does not know.
        self.needs_places = self.is_local or isinstance(self.position_bias, GAUDistanceBias)
        self.first_only = first_only and not self.needs_places
        halves = torch.arange(self.widths[-1]).view(-1, 2).T.flatten()
        columns = torch.arange(self.i_dense.out_features)
        columns[-len(halves) :] = columns[-len(halves) :][halves]
        parts = columns.split((self.widths[0], sum(self.widths[1:]))) if self.first_only else (columns,)
        self.input_maps = nn.ModuleList([_columns_of(self.i_dense, part) for part in parts])
        del self.i_dense
        if isinstance(self.o_dense, _RowScaledLinear):
            _scale_rows(self.input_maps)
        maps = (self.q_scaleoffset, self.k_scaleoffset)
        self.scales = nn.Buffer(torch.stack([scale_offset.weight[halves] for scale_offset in maps])[:, None])
        biases = [scale_offset.bias for scale_offset in maps]
        has_offsets = biases[0] is not None
        self.offsets = nn.Buffer(torch.stack([bias[halves] for bias in biases])[:, None]) if has_offsets else None

    def forward(
        self, hidden_states, position_embeddings, attention_mask=None, query_factor=None, score_shift=None, **kwargs
    ):
        visible = None if attention_mask is None else attention_mask.squeeze(1)
        if self.first_only:
            gate = self.activation(self.input_maps[0](_first_real(hidden_states, visible)))
            value, base = self.activation(self.input_maps[1](hidden_states)).split(self.widths[1:], dim=-1)
        else:
            gate, value, base = self.activation(self.input_maps[0](hidden_states)).split(self.widths, dim=-1)
        query, key = self.query_and_key(base, position_embeddings)
        query, key = self.scaled(query, key, position_embeddings, query_factor, score_shift, value.dtype)
        if self.first_only:
            query = _first_real(query, visible)
        if self.needs_places:
            attended = self._attend_by_place(query, key, value, attention_mask)
        else:
            normalization = ATTENTION_NORMALIZATIONS[self.config.attention_normalization]
            attended = normalization.weights(query @ key.transpose(-1, -2), visible, self.attention_sink) @ value
        return self.o_dense(gate * attended), None

    def query_and_key(self, base, position_embeddings):
        cos, sin = position_embeddings
        cos, sin = torch.cat((cos, cos), -1).unsqueeze(1), torch.cat((-sin, sin), -1).unsqueeze(1)
        both = base.unsqueeze(1) * self.scales
        if self.offsets is not None:
            both = both + self.offsets
        first, second = both.chunk(2, -1)
        both = both * cos + torch.cat((second, first), -1) * sin
        return both[:, 0], both[:, 1]

    def _attend_by_place(self, query, key, value, attention_mask):
        attended, _ = eager_attention_forward(
            self,
            query.unsqueeze(1),
            key.unsqueeze(1),
            value.unsqueeze(1),
            attention_mask,
            sliding_window=self.sliding_window,
            distance_bias=self.position_bias() if isinstance(self.position_bias, GAUDistanceBias) else None,
            sink=self.attention_sink,
        )
        return attended.squeeze(2)


def _columns_of(linear: nn.Linear, columns: torch.Tensor) -> nn.Linear:
    """The map to some columns of another one's output."""
    part = nn.Linear(linear.in_features, len(columns), bias=linear.bias is not None)
    part.load_state_dict({name: tensor[columns] for name, tensor in linear.state_dict().items()})
    return part


def _first_real(states: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
    """`(batch, 1, width)`, each row's first real token."""
    if visible is None:
        return states[:, :1]
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, visible.squeeze(1).int().argmax(-1)].unsqueeze(1)


def _serve_units(model: PreTrainedModel) -> None:
    """Replaces a GAU's units. A classifier of the first token needs no other in the last layer."""
    if not isinstance(model, GAUPreTrainedModel):
        return
    first_only = isinstance(model, _POOLED) and model.config.classifier_pooling == "cls"
    layers = model.base_model.layers
    for layer in layers:
        if type(layer.gau) is GatedAttentionUnit and type(layer.gau.i_dense) is nn.Linear:  # no adapters
            layer.gau = _ServedGatedAttentionUnit(layer.gau, first_only and layer is layers[-1])


def _largest_magnitude(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


class _RowScaledLinear(nn.Module):
    """A linear map that scales each row to magnitude 1 before the product and back after it.

    ONNX Runtime quantizes all activations of a batch with one scale. The product of gate and attended value has
    outliers of 80 times its root mean square: unscaled, the logits are 7.6 % off (18 of 872 predictions on SST-2
    change, and depend on the rest of the batch); scaled, 1.3 % (3 of 872).
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        largest = _largest_magnitude(states)
        output = nn.functional.linear(states / largest, self.weight) * largest
        return output if self.bias is None else output + self.bias


class _RowScaledEmbedding(nn.Module):
    """An embedding table with rows of magnitude 1, and a column with their scales."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.largest = nn.Buffer(_largest_magnitude(embedding.weight))
        self.weight = nn.Buffer(embedding.weight / self.largest)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(ids, self.weight) * nn.functional.embedding(ids, self.largest)


def _scale_rows(module: nn.Module) -> None:
    """Replaces what `_quantize_int8` will quantize by modules that compute the same on scaled rows."""
    for name, child in module.named_children():
        if isinstance(module, GatedAttentionUnit) and name == "i_dense":
            continue  # _ServedGatedAttentionUnit takes it apart first
        if isinstance(child, nn.Linear) and child.out_features >= _MIN_QUANTIZED_COLUMNS:
            setattr(module, name, _RowScaledLinear(child))
        elif isinstance(child, nn.Embedding) and child.embedding_dim >= _MIN_QUANTIZED_COLUMNS:
            setattr(module, name, _RowScaledEmbedding(child))
        else:
            _scale_rows(child)


def _serving_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A float32 copy on the CPU that returns only its outputs, with an attention that can be exported."""
    served = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    if isinstance(served.config, GAUConfig):
        served.set_attn_implementation(DEFAULT_ATTENTION_BACKEND)
    served.config.output_attentions = served.config.output_hidden_states = False
    served.config.return_dict = True
    return served


# Inputs


def sample_inputs(
    model: PreTrainedModel, names: Sequence[str], shape: Sequence[int], padding_side: str = "right"
) -> dict[str, torch.Tensor]:
    """Random inputs; rows are padded more and more, the last one to half the length.

    Args:
        model: gives the ranges of token ids and token types.
        names: which of `INPUT_NAMES` to make.
        shape: `(batch, seq)`, or `(batch, num_choices, seq)`.
        padding_side: `"right"` or `"left"`.

    Returns:
        name -> int64 tensor of that shape.
    """
    generator = torch.Generator().manual_seed(sum(shape))
    seq = shape[-1]
    lengths = torch.linspace(seq, (seq + 1) // 2, math.prod(shape[:-1])).round().view(*shape[:-1], 1)
    positions = torch.arange(seq) if padding_side == "right" else torch.arange(seq).flip(0)
    inputs = {
        "input_ids": torch.randint(model.get_input_embeddings().num_embeddings, shape, generator=generator),
        "attention_mask": (positions < lengths).long(),
    }
    if "token_type_ids" in names:
        inputs["token_type_ids"] = torch.randint(model.config.type_vocab_size, shape, generator=generator)
    return {name: inputs[name] for name in names}


def _has_choices(model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith("ForMultipleChoice")


def _traced_inputs(model: PreTrainedModel, names: Sequence[str]) -> dict[str, torch.Tensor]:
    # torch.export takes a size of 1 for a constant.
    return sample_inputs(model, names, (2, 3, 8) if _has_choices(model) else (2, 8))


def _checked_inputs(model: PreTrainedModel, names: Sequence[str]) -> list[dict[str, torch.Tensor]]:
    """Untraced shapes, padded on either side, among them the smallest, which has kernels of its own."""
    choices = (2,) if _has_choices(model) else ()
    cases = [((3, *choices, 17), "right"), ((4, *choices, 30), "left"), ((1, *choices, 1), "right")]
    if isinstance(model.config, GAUConfig) and model.config.sliding_window is not None:
        cases.append(((1, *choices, 2 * model.config.sliding_window + 3), "right"))  # longer than the window
    return [sample_inputs(model, names, shape, side) for shape, side in cases]


# Formats


def _write_torch_export(model: PreTrainedModel, inputs: dict[str, torch.Tensor], path: Path) -> None:
    axes = dict.fromkeys(range(inputs["input_ids"].ndim), torch.export.Dim.DYNAMIC)
    program = torch.export.export(
        _ServedModel(model).eval(), (), inputs, dynamic_shapes=dict.fromkeys(inputs, axes), strict=False
    )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # local paths
    torch.export.save(program, path)


def _write_onnx(model: PreTrainedModel, inputs: dict[str, torch.Tensor], path: Path) -> None:
    names = ("batch", "choices", "sequence") if _has_choices(model) else ("batch", "sequence")
    axes = dict.fromkeys(inputs, dict.fromkeys(range(len(names)), torch.export.Dim.DYNAMIC))
    outputs = list(model(**inputs))
    _serve_units(model)  # a copy of the caller's
    program = torch.onnx.export(
        _ServedModel(model).eval(),
        (),
        kwargs=inputs,
        dynamo=True,
        # Naming the axes of one input is enough: the exporter sees that the others are equal.
        dynamic_shapes=axes | {"input_ids": dict(enumerate(names))},
        input_names=list(inputs),
        output_names=outputs,
        verbose=False,
    )
    for node in program.model.graph.all_nodes():
        for key in [key for key in node.metadata_props if key.startswith("pkg.torch.onnx.")]:
            del node.metadata_props[key]  # stack traces with local paths
    program.save(path)


def _quantize_int8(source: Path, target: Path) -> None:
    """Writes a float32 ONNX program, exported after `_scale_rows`, as int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Folds constants such as the transposed embeddings of a tied head, which would stay in float32 otherwise.
    folded = source.with_name("folded.onnx")
    quant_pre_process(source, folded, skip_symbolic_shape=True, save_as_external_data=len(_program_files(source)) > 1)
    graph = onnx.load(folded, load_external_data=False).graph
    tables = [x for x in graph.initializer if x.data_type == x.FLOAT and len(x.dims) == 2]
    wide = {table.name for table in tables if table.dims[1] >= _MIN_QUANTIZED_COLUMNS}
    weight_input = {"MatMul": 1, "Gather": 0}
    nodes = [n.name for n in graph.node if n.op_type in weight_input and n.input[weight_input[n.op_type]] in wide]
    quantize_dynamic(
        folded,
        target,
        op_types_to_quantize=list(weight_input),
        nodes_to_quantize=nodes,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,  # 7 bits: without VNNI, 8-bit products overflow the 16-bit sums
    )


def _program_files(path: Path) -> list[Path]:
    """The program at `path`, if any; weights of 2 GB and more lie in a file beside it."""
    return [file for file in (path, path.with_name(f"{path.name}.data")) if file.is_file()]


def _select(inputs: Mapping[str, Any], names: Sequence[str]) -> dict[str, np.ndarray]:
    missing = [name for name in names if name not in inputs]
    if missing:
        raise GAUError(f"The program takes {', '.join(names)}, but got no {', '.join(missing)}.")
    values = {name: inputs[name].cpu() if isinstance(inputs[name], torch.Tensor) else inputs[name] for name in names}
    try:
        arrays = {name: np.asarray(value) for name, value in values.items()}
    except ValueError as error:
        raise GAUError(f"{', '.join(names)} must have rows of one length: pad the batch ({error})") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biu":
            raise GAUError(f"{name} must be integers, but is {array.dtype}.")
    arrays = {name: array.astype(np.int64) for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise GAUError(f"{', '.join(names)} must have one shape, but got {', '.join(map(str, shapes.values()))}.")
    return arrays


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """Around a library's reading of a program: any of its errors is one of the file."""
    try:
        yield
    except Exception as error:  # ONNX Runtime has types of its own, torch those of archives, pickles and schemas
        raise GAUError(f"'{path}' is damaged, or no exported program: {' '.join(str(error).split())}") from error


def _load_torch_export(path: Path, num_threads: int | None) -> Program:
    if num_threads is not None:
        raise GAUError("num_threads is an option of ONNX Runtime. For PyTorch, call torch.set_num_threads.")
    with _read(path):
        program = torch.export.load(path)
    names, module = program.graph_signature.user_inputs, program.module()

    @torch.no_grad()
    def run(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return module(**{name: torch.from_numpy(value) for name, value in _select(inputs, names).items()})

    return run


def _load_onnx(path: Path, num_threads: int | None) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    with _read(path):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    input_names = [node.name for node in session.get_inputs()]
    output_names = [node.name for node in session.get_outputs()]

    def run(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        feeds = _select(inputs, input_names)
        try:
            outputs = session.run(None, feeds)
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:  # of a table's index
            said = " ".join(str(error).split())
            raise GAUError(
                f"The program refuses {', '.join(input_names)}; are all ids in its vocabulary? {said}"
            ) from error
        return dict(zip(output_names, map(torch.from_numpy, outputs), strict=True))

    return run


@dataclass(frozen=True)
class ExportFormat:
    """A kind of program.

    Args:
        file_name: of the program in the output directory.
        write: (model, traced inputs, path) -> writes the program.
        load: (path, number of threads or None) -> a function of inputs.
        packages: packages it needs, all in the extra `onnx`.
        quantize: precision -> function that writes a float32 program (source, target) in that precision.
    """

    file_name: str
    write: Callable[[PreTrainedModel, dict[str, torch.Tensor], Path], None]
    load: Callable[[Path, int | None], Program]
    packages: tuple[str, ...] = ()
    quantize: dict[str, Callable[[Path, Path], None]] = field(default_factory=dict)


EXPORT_FORMATS = {
    "onnx": ExportFormat(
        "model.onnx", _write_onnx, _load_onnx, ("onnx", "onnxscript", "onnxruntime"), {"int8": _quantize_int8}
    ),
    "torch_export": ExportFormat("model.pt2", _write_torch_export, _load_torch_export),
}


# Export and loading


def export_model(
    model: PreTrainedModel,
    output_dir: str | os.PathLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    format: str = "onnx",
    quantize: str | None = None,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> ExportedModel:
    """Writes a program that computes what the model does, for any batch size and length, and checks it.

    Inputs are those of `input_ids`, `attention_mask` and `token_type_ids` that the tokenizer makes, int64 of shape
    `(batch, seq)`, or `(batch, num_choices, seq)` for multiple choice. Outputs are float32 and named as the model
    names them: `logits`, `last_hidden_state`, `start_logits`, `end_logits`. The configuration, `fixed_n` included,
    becomes part of the program.

    Args:
        model: any encoder of transformers or of this package; it is copied, not changed.
        output_dir: gets the program, `config.json` and the tokenizer's files.
        tokenizer: the checkpoint's. Without one, the program takes all three inputs and no tokenizer is saved.
        format: `"onnx"` (`model.onnx`) or `"torch_export"` (`model.pt2`, for `torch.export.load`).
        quantize: `"int8"` for int8 weights, and activations rounded to int8 at run time (ONNX on the CPU).
        tolerance: largest ||program - model|| / ||model|| allowed; default 1e-4, or 0.3 for int8.
        overwrite: replace files of the same names in a directory that is not empty.

    Raises:
        ValueError: not a transformers model, an unknown format or precision, or a directory that is not empty.
        ImportError: a package of the extra `onnx` is missing.
        ExportError: the outputs differ by more than the tolerance. Nothing is written then.
    """
    output_dir = Path(output_dir)
    if not isinstance(model, PreTrainedModel):
        raise GAUError(
            f"Expected a transformers model, got a {type(model).__name__}. Merge a PEFT adapter into its model first: "
            "model.merge_and_unload()."
        )
    if model.config.is_encoder_decoder:
        raise GAUError(f"{type(model).__name__} is an encoder and a decoder; only encoders can be exported.")
    if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise GAUError(
            f"tokenizer must be a tokenizer of transformers, got a {type(tokenizer).__name__}: load it with "
            "AutoTokenizer.from_pretrained."
        )
    _check_format(format, quantize)
    _check_output_dir(output_dir, overwrite)
    tolerance = TOLERANCES[quantize] if tolerance is None else tolerance
    export_format, taken = EXPORT_FORMATS[format], inspect.signature(model.forward).parameters
    made_names = INPUT_NAMES if tokenizer is None else tokenizer.model_input_names
    names = tuple(name for name in INPUT_NAMES if name in made_names and name in taken)
    try:
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix=f".{output_dir.name}-", dir=output_dir.parent)
    except OSError as error:
        raise GAUError(f"output_dir '{output_dir}' cannot be written: {error.strerror}.") from error
    with made as folder:
        path = Path(folder) / export_format.file_name
        difference = _write_program(model, names, export_format, quantize, path)
        if not difference <= tolerance:
            raise ExportError(_describe_difference(difference, tolerance, quantize))
        config = copy.deepcopy(model.config)
        config.architectures, config.dtype = [type(model).__name__], torch.float32
        config.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        _move_files(path, output_dir)
    return ExportedModel(output_dir / export_format.file_name, difference, tolerance)


@torch.no_grad()
def _write_program(
    model: PreTrainedModel, names: Sequence[str], export_format: ExportFormat, quantize: str | None, path: Path
) -> float:
    """Writes the program to `path` and returns its difference from the model."""
    served = _serving_copy(model)
    checks = [(inputs, dict(served(**inputs))) for inputs in _checked_inputs(served, names)]
    traced = _traced_inputs(served, names)
    if quantize is None:
        export_format.write(served, traced, path)
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _scale_rows(served)
            export_format.write(served, traced, Path(folder) / path.name)
            export_format.quantize[quantize](Path(folder) / path.name, path)
    return _largest_difference(export_format.load(path, None), checks)


def load_exported(path: str | os.PathLike, num_threads: int | None = None) -> Program:
    """Loads an exported program as a function: inputs by name (tensors, arrays or nested lists) -> tensors by name.

    It ignores inputs that the program does not take, so a tokenizer's output can be passed as it is.

    Args:
        path: the program, or the directory that [`export_model`] wrote.
        num_threads: threads of ONNX Runtime; by default one a core.

    Raises:
        ValueError: there is no exported program.
        ImportError: onnxruntime is missing.
    """
    path = Path(path)
    for export_format in EXPORT_FORMATS.values():
        file = path / export_format.file_name if path.is_dir() else path
        if file.is_file() and file.suffix == Path(export_format.file_name).suffix:
            _check_packages(export_format)
            return export_format.load(file, num_threads)
    names = ", ".join(export_format.file_name for export_format in EXPORT_FORMATS.values())
    raise GAUError(f"'{path}' is neither an exported program nor a directory with one ({names}). Run export_model.")


def _check_format(format: str, quantize: str | None) -> None:
    if format not in EXPORT_FORMATS:
        raise GAUError(f"Unknown format='{format}'. Allowed: {', '.join(EXPORT_FORMATS)}.")
    if quantize is not None and quantize not in EXPORT_FORMATS[format].quantize:
        allowed = [f"{q} with format='{name}'" for name, other in EXPORT_FORMATS.items() for q in other.quantize]
        raise GAUError(
            f"format='{format}' does not support quantize='{quantize}'. Allowed: {', '.join(allowed)}, or none."
        )
    _check_packages(EXPORT_FORMATS[format])


def _check_packages(export_format: ExportFormat) -> None:
    missing = [name for name in export_format.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'ONNX needs {", ".join(missing)}: pip install "modeling-gau[onnx]".')


def _check_output_dir(output_dir: Path, overwrite: bool) -> None:
    if output_dir.exists() and not output_dir.is_dir():
        raise GAUError(f"output_dir '{output_dir}' is a file. Name a directory.")
    if not overwrite and output_dir.is_dir() and any(output_dir.iterdir()):
        raise GAUError(
            f"output_dir '{output_dir}' is not empty. Name another one, or pass overwrite=True "
            "(--overwrite_output_dir) to replace files of the same names."
        )


def _largest_difference(program: Program, checks: Sequence[tuple[dict, dict]]) -> float:
    squares: dict[str, list[torch.Tensor]] = {}
    for inputs, expected in checks:
        outputs = program(inputs)
        for name, value in expected.items():
            pair = torch.stack([(outputs[name] - value).square().sum(), value.square().sum()])
            squares.setdefault(name, []).append(pair)
    ratios = [torch.stack(parts).sum(0) for parts in squares.values()]
    # Unlike the built-in max, torch's gives NaN if one ratio is NaN.
    return torch.stack([(difference / value).sqrt() for difference, value in ratios]).max().item()


def _describe_difference(difference: float, tolerance: float, quantize: str | None) -> str:
    remedy = "Try other versions of torch, onnx and onnxscript, and report it with the configuration."
    if quantize is not None:
        remedy = "This model loses too much: export it without quantize, or measure its metric and raise tolerance."
    return (
        f"The program's outputs differ from the model's by {difference:.2g} of their norm, more than the tolerance of "
        f"{tolerance:.2g}. Nothing was written. {remedy}"
    )


def _move_files(path: Path, output_dir: Path) -> None:
    """Moves a new program and the files beside it; the program last, so that it is never there without them."""
    output_dir.mkdir(exist_ok=True)
    program = _program_files(path)
    for file in _program_files(output_dir / path.name):
        file.unlink()
    for file in [other for other in path.parent.iterdir() if other not in program] + program[::-1]:
        os.replace(file, output_dir / file.name)


# Command line


@dataclass
class ExportArguments:
    """Which checkpoint to export, and how."""

    model_name_or_path: str = field(metadata={"help": "Checkpoint to export: a directory or a name on the Hub."})
    output_dir: str = field(metadata={"help": "Directory for the program, the configuration and the tokenizer."})
    format: Literal["onnx", "torch_export"] = field(
        default="onnx", metadata={"help": "model.onnx for ONNX Runtime, or model.pt2 for torch.export.load."}
    )
    quantize: Literal["int8"] | None = field(
        default=None, metadata={"help": "int8 weights and activations on the CPU, with format onnx."}
    )
    task: str | None = field(
        default=None, metadata={"help": f"One of {', '.join(TASKS)}; by default the one it was saved for."}
    )
    tolerance: float | None = field(
        default=None,
        metadata={"help": "Largest relative difference from the model; default 1e-4, or 0.3 for int8."},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace files of the same names in a directory that is not empty."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer, if it is not the checkpoint's."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the checkpoint on the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run the checkpoint's own model code."})

    def __post_init__(self):
        if self.task is not None and self.task not in TASKS:
            raise GAUError(f"Unknown --task '{self.task}'. Allowed: {', '.join(TASKS)}.")


def load_for_export(arguments: ExportArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the checkpoint in float32 with the head of the task, and its tokenizer.

    Raises:
        ValueError: neither the arguments nor the configuration name a task, or the checkpoint lacks its head or
            is damaged.
    """
    hub = {"revision": arguments.revision, "trust_remote_code": arguments.trust_remote_code}
    name = arguments.model_name_or_path
    task = arguments.task or _task_of(read_config(name, **hub), name)
    _, auto_class = TASKS[task]
    tokenizer = load_tokenizer(arguments.tokenizer_name or name, **hub)
    model, misfits = load_with_misfits(auto_class, name, dtype=torch.float32, **hub)
    check_fit(
        name, misfits, f"If it was not trained for {task}, fine-tune it, or name the task it was saved for (--task)."
    )
    if len(tokenizer) > model.config.vocab_size:
        raise GAUError(
            f"The tokenizer {arguments.tokenizer_name or name} has {len(tokenizer)} tokens, but {name} embeds "
            f"{model.config.vocab_size}: give the tokenizer that it was trained with."
        )
    return model, tokenizer


def _task_of(config: PreTrainedConfig, name: str) -> str:
    for architecture in config.architectures or ():
        for task, (suffix, _) in TASKS.items():
            if architecture.endswith(suffix):
                return task
    raise GAUError(f"The configuration of '{name}' names no task. Give --task, one of {', '.join(TASKS)}.")


def main(argv: list[str] | None = None) -> ExportedModel:
    (arguments,) = parse_arguments([ExportArguments], argv, __doc__)
    _check_format(arguments.format, arguments.quantize)  # before the checkpoint, which can take long to load
    _check_output_dir(Path(arguments.output_dir), arguments.overwrite_output_dir)
    model, tokenizer = load_for_export(arguments)
    precision = arguments.quantize or "float32"
    print(f"Exporting {type(model).__name__} as {arguments.format} in {precision}; this takes some seconds.")
    exported = export_model(
        model,
        arguments.output_dir,
        tokenizer,
        format=arguments.format,
        quantize=arguments.quantize,
        tolerance=arguments.tolerance,
        overwrite=arguments.overwrite_output_dir,
    )
    megabytes = sum(file.stat().st_size for file in _program_files(exported.path)) / 1e6
    print(
        f"Largest difference from the model: {exported.difference:.1e} of the norm (tolerance {exported.tolerance:g})"
    )
    print(f"Wrote {exported.path} ({megabytes:.1f} MB), with config.json and the tokenizer beside it.")
    return exported


if __name__ == "__main__":
    run_program(main)
