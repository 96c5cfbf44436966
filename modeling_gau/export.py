# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
r"""Checkpoints for serving: torch.export and ONNX programs of any batch size and length, in float32 or int8.

    python -m modeling_gau.export --model_name_or_path my-sst2 --output_dir my-sst2-onnx --format onnx
    python -m modeling_gau.export --model_name_or_path my-sst2 --output_dir my-sst2-int8 --quantize int8

The directory holds the program (`model.onnx` or `model.pt2`), `config.json` and the tokenizer's files, which is the
layout that ONNX servers of Hugging Face checkpoints look for. Before anything is put there, the written program is
loaded, run on padded batches of other shapes than the traced one, and compared with the model.

What int8 does to a gated attention unit, as measured on a gau-tiny fine-tuned on SST-2 (error: of the logits, relative
to their norm; time: of one core with VNNI for batches of 1 and 32 sentences, relative to ONNX in float32):

- ONNX Runtime's `quantize_dynamic` has one scale for all activations of a batch. That suits the input of the first
  projection, whose rows have all the norm sqrt(hidden): error 1.8 %. It does not suit the input of the second, the
  product of gate and attended value: its largest entry is up to 80 times its root mean square, the error 7.6 %, 18 of
  872 predictions change, and a sentence's logits depend on the other sentences of its batch. Scales per column of the
  weights do not help. Time 0.56 and 0.54.
- Therefore rows are divided by their largest magnitude before each projection, and multiplied back after it: the same
  in real numbers, and the one scale of the batch then serves every token. Error 1.3 %, 3 predictions change, time 0.66
  and 0.60. This is what is done here.
- Weights have a scale per column and 7 bits of 8: on processors without VNNI, products of 8 bits would overflow the
  16-bit sums that ONNX Runtime takes there. Embeddings are int8, with a scale per row. Narrow heads stay in float32.
- `MatMulNBits` with 8 bits, one scale per block of 64 entries of a row: error 0.6 %, but time 0.85 and 0.88, and an
  operator that ONNX Runtime alone has.
- torchao's `Int8DynamicActivationInt8WeightConfig`, one scale per row: error 1.9 %; 1.7 and 0.8 times the time of
  PyTorch in float32 unless it is compiled, which takes minutes and a C++ compiler, and it needs torchao to be served.
"""

import copy
import importlib.util
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .attention_gau import DEFAULT_ATTENTION_BACKEND
from .configuration_gau import GAUConfig
from .runs.recipes import parse_arguments


# Name of the task, as in pipelines -> (how names of its model classes end, Auto class).
TASKS = {
    "fill-mask": ("ForMaskedLM", AutoModelForMaskedLM),
    "text-classification": ("ForSequenceClassification", AutoModelForSequenceClassification),
    "token-classification": ("ForTokenClassification", AutoModelForTokenClassification),
    "question-answering": ("ForQuestionAnswering", AutoModelForQuestionAnswering),
    "multiple-choice": ("ForMultipleChoice", AutoModelForMultipleChoice),
    "feature-extraction": ("Model", AutoModel),
}
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
AXIS_NAMES = ("batch", "sequence")
CHOICES_AXIS_NAMES = ("batch", "choices", "sequence")

# Largest ||program - model|| / ||model|| of an output. In float32 only the order of sums differs (4e-7 at 24 layers).
# With int8 it tells a broken program from a good one and no more: the tokens are random, and what a trained model says
# of them is less stable than what it says of text (up to 10 % as against 2 %).
TOLERANCES = {None: 1e-4, "int8": 0.3}

# Weights of fewer columns stay in float32: a head of some classes costs nothing and its rounding goes straight into
# the answer.
_MIN_QUANTIZED_COLUMNS = 64

Program = Callable[[Mapping[str, Any]], dict[str, torch.Tensor]]


class ExportError(RuntimeError):
    """The exported program does not compute what the model does. Nothing has been written."""


@dataclass(frozen=True)
class ExportedModel:
    """What [`export_model`] wrote.

    Args:
        path: file of the program.
        difference: largest ||program - model|| / ||model|| of an output, over all batches that were compared.
        tolerance: what was allowed.
    """

    path: Path
    difference: float
    tolerance: float


# ------------------------------------------------------------------------------------------------------- the program


class _ServedModel(nn.Module):
    """The model with a plain dict as output: a program must load where transformers is not installed."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return dict(self.model(**{name: value for name, value in inputs.items() if value is not None}))


def _largest_magnitude(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


class _RowScaledLinear(nn.Module):
    """A linear map of rows brought to a largest magnitude of 1, times what they were divided by."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        largest = _largest_magnitude(states)
        output = nn.functional.linear(states / largest, self.weight) * largest
        return output if self.bias is None else output + self.bias


class _RowScaledEmbedding(nn.Module):
    """A table of rows brought to a largest magnitude of 1, and a column of what they were divided by."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.largest = nn.Buffer(_largest_magnitude(embedding.weight))
        self.weight = nn.Buffer(embedding.weight / self.largest)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(ids, self.weight) * nn.functional.embedding(ids, self.largest)


def _scale_rows(module: nn.Module) -> None:
    """Rewrites, without changing what is computed, all that `_write_int8` will quantize."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and child.out_features >= _MIN_QUANTIZED_COLUMNS:
            setattr(module, name, _RowScaledLinear(child))
        elif isinstance(child, nn.Embedding) and child.embedding_dim >= _MIN_QUANTIZED_COLUMNS:
            setattr(module, name, _RowScaledEmbedding(child))
        else:
            _scale_rows(child)


def _serving_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy in float32 on the CPU that returns its outputs alone and consists of operations that can be exported."""
    served = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    if isinstance(served.config, GAUConfig):
        served.set_attn_implementation(DEFAULT_ATTENTION_BACKEND)
    served.config.output_attentions = served.config.output_hidden_states = False
    served.config.return_dict = True
    return served


def sample_inputs(
    model: PreTrainedModel, names: Sequence[str], shape: Sequence[int], padding_side: str = "right"
) -> dict[str, torch.Tensor]:
    """Random inputs of a shape that ends in the length; later rows are padded, the last one to half the length.

    Args:
        model: tells the ranges of token ids and token types.
        names: inputs to make, of `INPUT_NAMES`.
        shape: `(batch, seq)`, or `(batch, num_choices, seq)`.
        padding_side: `"right"` or `"left"`.

    Returns:
        int64 tensors of that shape by name.
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
    # No attribute tells it; transformers' own tables of tasks go by the names of classes as well.
    return type(model).__name__.endswith("ForMultipleChoice")


def _input_names(tokenizer: PreTrainedTokenizerBase | None) -> tuple[str, ...]:
    return INPUT_NAMES if tokenizer is None else tuple(n for n in INPUT_NAMES if n in tokenizer.model_input_names)


def _traced_inputs(model: PreTrainedModel, names: Sequence[str]) -> dict[str, torch.Tensor]:
    # Sizes other than 1, which torch.export would take for a constant.
    return sample_inputs(model, names, (2, 3, 8) if _has_choices(model) else (2, 8))


def _checked_inputs(model: PreTrainedModel, names: Sequence[str]) -> list[dict[str, torch.Tensor]]:
    """Padded on either side, in shapes that were not traced; the smallest one too, for which kernels are special."""
    choices = (2,) if _has_choices(model) else ()
    cases = [((3, *choices, 17), "right"), ((4, *choices, 30), "left"), ((1, *choices, 1), "right")]
    if model.config.sliding_window is not None:
        cases.append(((1, *choices, 2 * model.config.sliding_window + 3), "right"))  # longer than what is seen
    return [sample_inputs(model, names, shape, side) for shape, side in cases]


# ------------------------------------------------------------------------------------------------------- the formats


def _write_torch_export(model: PreTrainedModel, inputs: dict[str, torch.Tensor], path: Path) -> None:
    axes = dict.fromkeys(range(inputs["input_ids"].ndim), torch.export.Dim.DYNAMIC)
    program = torch.export.export(
        _ServedModel(model).eval(), (), inputs, dynamic_shapes=dict.fromkeys(inputs, axes), strict=False
    )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path)


def _write_onnx(model: PreTrainedModel, inputs: dict[str, torch.Tensor], path: Path) -> None:
    names = CHOICES_AXIS_NAMES if _has_choices(model) else AXIS_NAMES
    axes = dict.fromkeys(inputs, dict.fromkeys(range(len(names)), torch.export.Dim.DYNAMIC))
    program = torch.onnx.export(
        _ServedModel(model).eval(),
        (),
        kwargs=inputs,
        dynamo=True,
        # Axes of the other inputs are found to be the same ones; names given twice would be warned about.
        dynamic_shapes=axes | {"input_ids": dict(enumerate(names))},
        input_names=list(inputs),
        output_names=list(model(**inputs)),
        verbose=False,
    )
    for node in program.model.graph.all_nodes():
        for key in [key for key in node.metadata_props if key.startswith("pkg.torch.onnx.")]:
            del node.metadata_props[key]  # stack traces, with paths of this machine
    program.save(path)


def _quantize_int8(path: Path) -> None:
    """Replaces an ONNX file of float32, exported from a model of `_RowScaledLinear`, by one of int8."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder) / path.name
        for file in _program_files(path):
            os.replace(file, source.with_name(file.name))
        _write_int8(source, path)


def _write_int8(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Folds constants, such as the transposed embeddings of a tied masked-LM head, which would else stay in float32.
    folded = source.with_name("folded.onnx")
    quant_pre_process(source, folded, skip_symbolic_shape=True, save_as_external_data=len(_program_files(source)) > 1)
    graph = onnx.load(folded, load_external_data=False).graph
    wide = {
        x.name
        for x in graph.initializer
        if x.data_type == x.FLOAT and len(x.dims) == 2 and x.dims[1] >= _MIN_QUANTIZED_COLUMNS
    }
    weight_of = {"MatMul": 1, "Gather": 0}  # which input of a node it is
    nodes = [
        node.name for node in graph.node if node.op_type in weight_of and node.input[weight_of[node.op_type]] in wide
    ]
    quantize_dynamic(
        folded,
        target,
        op_types_to_quantize=list(weight_of),
        nodes_to_quantize=nodes,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )


def _program_files(path: Path) -> list[Path]:
    """The program that there is at `path`; weights of 2 GB and more are in a file beside it."""
    return [file for file in (path, path.with_name(f"{path.name}.data")) if file.is_file()]


def _taken(inputs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ValueError(f"The program takes {', '.join(names)}, but {', '.join(missing)} is not given.")
    return {name: inputs[name] for name in names}


def _load_torch_export(path: Path, num_threads: int | None) -> Program:
    if num_threads is not None:
        raise ValueError("num_threads is an option of ONNX Runtime; for PyTorch call torch.set_num_threads.")
    program = torch.export.load(path)
    names, module = program.graph_signature.user_inputs, program.module()

    def run(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return module(**{name: torch.as_tensor(value) for name, value in _taken(inputs, names).items()})

    return run


def _load_onnx(path: Path, num_threads: int | None) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    input_names = [node.name for node in session.get_inputs()]
    output_names = [node.name for node in session.get_outputs()]

    def run(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        feeds = {name: np.asarray(value, dtype=np.int64) for name, value in _taken(inputs, input_names).items()}
        return {
            name: torch.from_numpy(value) for name, value in zip(output_names, session.run(None, feeds), strict=True)
        }

    return run


@dataclass(frozen=True)
class ExportFormat:
    """How a kind of program is written and loaded.

    Args:
        file_name: name of the program in the output directory.
        write: writes the program of (model, traced inputs) to a path.
        load: makes a function of inputs from (path, number of threads or None).
        packages: what must be installed, all of the extra `onnx`.
        quantize: by the name of a precision, the function that replaces the written program by one of that precision.
    """

    file_name: str
    write: Callable[[PreTrainedModel, dict[str, torch.Tensor], Path], None]
    load: Callable[[Path, int | None], Program]
    packages: tuple[str, ...] = ()
    quantize: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


EXPORT_FORMATS = {
    "onnx": ExportFormat(
        "model.onnx",
        _write_onnx,
        _load_onnx,
        packages=("onnx", "onnxscript", "onnxruntime"),
        quantize={"int8": _quantize_int8},
    ),
    "torch_export": ExportFormat("model.pt2", _write_torch_export, _load_torch_export),
}


# ------------------------------------------------------------------------------------------------ export and loading


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

    Its inputs are `input_ids`, `attention_mask` and `token_type_ids`, as far as the tokenizer makes them, int64 of
    shape `(batch, seq)`, for multiple choice `(batch, num_choices, seq)`; its outputs are those of the model by name:
    `logits`, `last_hidden_state`, `start_logits` and `end_logits`, in float32. `fixed_n`, as everything in the
    configuration, becomes part of the program.

    Args:
        model: any encoder of transformers or of this package; it stays as it is, a copy in float32 is exported.
        output_dir: gets the program, `config.json` and the tokenizer's files.
        tokenizer: the checkpoint's; without one all three inputs are taken and no tokenizer is saved.
        format: `"onnx"` (`model.onnx`) or `"torch_export"` (`model.pt2`, for `torch.export.load`).
        quantize: `"int8"` for weights in int8 and activations that are rounded to int8 at run time (ONNX, CPU).
        tolerance: allowed ||program - model|| / ||model|| of each output; 1e-4, with int8 0.3, by default.
        overwrite: whether files of the same names may be replaced in a directory that is not empty.

    Returns:
        Where the program is and how far it is from the model.

    Raises:
        ValueError: not a model of transformers, an unknown format or precision, or a directory that is not empty.
        ImportError: a package of the extra `onnx` is missing.
        ExportError: the program's outputs differ by more than the tolerance. Nothing is written then.
    """
    output_dir = Path(output_dir)
    _check_model(model)
    _check_format(format, quantize)
    _check_output_dir(output_dir, overwrite)
    tolerance = TOLERANCES[quantize] if tolerance is None else tolerance
    export_format, served, names = EXPORT_FORMATS[format], _serving_copy(model), _input_names(tokenizer)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output_dir.name}-", dir=output_dir.parent) as folder, torch.no_grad():
        path = Path(folder) / export_format.file_name
        checks = [(inputs, dict(served(**inputs))) for inputs in _checked_inputs(served, names)]
        traced = _traced_inputs(served, names)
        if quantize is not None:
            _scale_rows(served)
        export_format.write(served, traced, path)
        if quantize is not None:
            export_format.quantize[quantize](path)
        difference = _largest_difference(export_format.load(path, None), checks)
        if not difference <= tolerance:
            raise ExportError(_describe_difference(difference, tolerance, quantize))
        _saved_config(model).save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        _move_files(path, output_dir)
    return ExportedModel(output_dir / export_format.file_name, difference, tolerance)


def load_exported(path: str | os.PathLike, num_threads: int | None = None) -> Program:
    """Makes an exported program a function: inputs by name (tensors, arrays or lists of equal lengths) -> tensors.

    Inputs that the program does not take are left aside, so that a tokenizer's output fits as it is.

    Args:
        path: the program, or the directory that [`export_model`] wrote.
        num_threads: threads of ONNX Runtime; as many as there are cores by default.

    Raises:
        ValueError: there is no exported program.
        ImportError: onnxruntime is missing.
    """
    path = Path(path)
    files = [path / export_format.file_name for export_format in EXPORT_FORMATS.values()] if path.is_dir() else [path]
    for file in files:
        for export_format in EXPORT_FORMATS.values():
            if file.is_file() and file.suffix == Path(export_format.file_name).suffix:
                _check_packages(export_format)
                return export_format.load(file, num_threads)
    names = ", ".join(export_format.file_name for export_format in EXPORT_FORMATS.values())
    raise ValueError(
        f"'{path}' is no exported program and no directory with one ({names}). Make it with export_model."
    )


def _check_model(model: PreTrainedModel) -> None:
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"A model of transformers is needed, not a {type(model).__name__}. Merge a PEFT adapter into its model "
            "first: model.merge_and_unload()."
        )


def _check_format(format: str, quantize: str | None) -> None:
    if format not in EXPORT_FORMATS:
        raise ValueError(f"Unknown format='{format}'. Allowed: {', '.join(EXPORT_FORMATS)}.")
    if quantize is not None and quantize not in EXPORT_FORMATS[format].quantize:
        able = [f"{q} with format='{name}'" for name, other in EXPORT_FORMATS.items() for q in other.quantize]
        raise ValueError(f"quantize='{quantize}' does not go with format='{format}'. Allowed: {', '.join(able)}.")
    _check_packages(EXPORT_FORMATS[format])


def _check_packages(export_format: ExportFormat) -> None:
    missing = [name for name in export_format.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"ONNX needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            'pip install "modeling-gau[onnx]".'
        )


def _check_output_dir(output_dir: Path, overwrite: bool) -> None:
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"output_dir '{output_dir}' is a file. Name a directory.")
    if not overwrite and output_dir.is_dir() and any(output_dir.iterdir()):
        raise ValueError(
            f"output_dir '{output_dir}' is not empty. Name another one, or replace files of the same names with "
            "overwrite=True (--overwrite_output_dir)."
        )


def _saved_config(model: PreTrainedModel) -> PreTrainedConfig:
    config = copy.deepcopy(model.config)
    config.architectures, config.dtype = [type(model).__name__], torch.float32
    return config


def _largest_difference(program: Program, checks: Sequence[tuple[dict, dict]]) -> float:
    squares: dict[str, list[torch.Tensor]] = {}
    for inputs, expected in checks:
        outputs = program(inputs)
        for name, value in expected.items():
            squares.setdefault(name, []).append(
                torch.stack([(outputs[name] - value).square().sum(), value.square().sum()])
            )
    ratios = [torch.stack(parts).sum(0) for parts in squares.values()]
    # torch's maximum is NaN where one ratio is; the built-in one may pass over it.
    return torch.stack([(difference / value).sqrt() for difference, value in ratios]).max().item()


def _describe_difference(difference: float, tolerance: float, quantize: str | None) -> str:
    remedy = "Try other versions of torch, onnx and onnxscript, and report it with the configuration."
    if quantize is not None:
        remedy = "This model does not bear it: export without quantize, or measure its metric and raise tolerance."
    return (
        f"The exported program's outputs differ from the model's by {difference:.2g} of their norm, more than the "
        f"tolerance of {tolerance:.2g}. Nothing was written. {remedy}"
    )


def _move_files(path: Path, output_dir: Path) -> None:
    """Moves what is beside a new program and then itself: where it is, everything is."""
    output_dir.mkdir(exist_ok=True)
    program = _program_files(path)
    for file in _program_files(output_dir / path.name):
        file.unlink()
    for file in [other for other in path.parent.iterdir() if other not in program] + program[::-1]:
        os.replace(file, output_dir / file.name)


# ------------------------------------------------------------------------------------------------------ command line


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
        default=None, metadata={"help": f"One of {', '.join(TASKS)}; what the checkpoint was saved as by default."}
    )
    tolerance: float | None = field(
        default=None,
        metadata={"help": "Allowed difference to the model, relative to the norm; 1e-4, with int8 0.3, by default."},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace files of the same names in a directory that is not empty."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer, where it is not the checkpoint's."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the checkpoint on the Hub."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the model code that the checkpoint brings with it."}
    )

    def __post_init__(self):
        if self.task is not None and self.task not in TASKS:
            raise ValueError(f"Unknown --task '{self.task}'. Allowed: {', '.join(TASKS)}.")


def load_for_export(arguments: ExportArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint in float32 with the head of the task, and its tokenizer.

    Raises:
        ValueError: the configuration does not tell the task and none is given, or the checkpoint has no such head.
    """
    hub = {"revision": arguments.revision, "trust_remote_code": arguments.trust_remote_code}
    name = arguments.model_name_or_path
    task = arguments.task or _task_of(AutoConfig.from_pretrained(name, **hub), name)
    _, auto_class = TASKS[task]
    model, loading = auto_class.from_pretrained(name, dtype=torch.float32, output_loading_info=True, **hub)
    if loading["missing_keys"]:
        raise ValueError(
            f"'{name}' has no weights for {', '.join(sorted(loading['missing_keys']))}, so it was not trained for "
            f"{task}. Fine-tune it first, or name the task that it was saved for (--task)."
        )
    return model, AutoTokenizer.from_pretrained(arguments.tokenizer_name or name, **hub)


def _task_of(config: PreTrainedConfig, name: str) -> str:
    for architecture in config.architectures or ():
        for task, (suffix, _) in TASKS.items():
            if architecture.endswith(suffix):
                return task
    raise ValueError(f"The configuration of '{name}' does not tell its task: give --task, one of {', '.join(TASKS)}.")


def main(argv: list[str] | None = None) -> ExportedModel:
    (arguments,) = parse_arguments([ExportArguments], argv, __doc__)
    _check_format(arguments.format, arguments.quantize)  # before the checkpoint is loaded, which can take long
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
    print(f"Largest difference to the model: {exported.difference:.1e} of the norm (tolerance {exported.tolerance:g})")
    print(f"Wrote {exported.path} ({megabytes:.1f} MB), with config.json and the tokenizer beside it.")
    return exported


if __name__ == "__main__":
    main()
