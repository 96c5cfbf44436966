# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Exported programs compute what the model does, for any shape; otherwise nothing is written."""

import ast
import copy
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertForSequenceClassification,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from modeling_gau import (
    GAUConfig,
    GAUError,
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
    export,
)
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS
from modeling_gau.export import (
    ExportArguments,
    ExportError,
    export_model,
    load_exported,
    load_for_export,
    main,
    sample_inputs,
)


NAMES = ("input_ids", "attention_mask", "token_type_ids")
# Batch and length 1, other shapes than the traced one, either side of the padding.
SHAPES = [((1, 1), "right"), ((1, 7), "right"), ((3, 9), "right"), ((5, 70), "left")]
# Wide enough for int8 weights.
SIZES = {
    "vocab_size": 48,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="module")
def build(make_model):
    return lambda kind=GAUForSequenceClassification, **fields: make_model(kind, **SIZES | fields)


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    return make_tokenizer("abcdefgh")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer, build) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "classifier"
    build(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def assert_equal_outputs(path: Path, model: nn.Module, shapes=SHAPES, names=NAMES) -> None:
    program = load_exported(path)
    for shape, side in shapes:
        inputs = sample_inputs(model, names, shape, side)
        with torch.no_grad():
            torch.testing.assert_close(program(inputs), dict(model(**inputs)), rtol=1e-4, atol=1e-5)


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def instant(monkeypatch) -> dict:
    """A format "instant" whose program is the model itself plus the numbers in the dict, by output: a real export
    takes seconds."""
    served, added = [], {}

    def write(model, inputs, path):
        served.append(model)
        path.write_text("program")

    def load(path, num_threads):
        def run(inputs):
            return {name: value + added.get(name, 0.0) for name, value in served[-1](**inputs).items()}

        return run

    monkeypatch.setitem(export.EXPORT_FORMATS, "instant", export.ExportFormat("model.instant", write, load))
    return added


# Results

# The others take minutes. With `test_int8` (masked LM, softmax_plus) and the tests of written directories, these cover
# every head and every normalization. The window is longer than the traced inputs and shorter than the longest ones.
WINDOW = {"num_hidden_layers": 2, "sliding_window": 40, "layer_types": ["full_attention", "sliding_attention"]}
DEFAULT_CASES = {
    ("onnx", GAUForMultipleChoice, "softmax", None),
    ("torch_export", GAUForQuestionAnswering, "squared_relu", 20),
}
OUTPUTS = {
    GAUModel: ["last_hidden_state"],
    GAUForMaskedLM: ["logits"],
    GAUForMultipleChoice: ["logits"],
    GAUForQuestionAnswering: ["start_logits", "end_logits"],
    GAUForSequenceClassification: ["logits"],
    GAUForTokenClassification: ["logits"],
}


def cases() -> list:
    axes = itertools.product(("onnx", "torch_export"), OUTPUTS, ATTENTION_NORMALIZATIONS.items(), (None, 20))
    found = [(form, kind, name, n) for form, kind, (name, normalization), n in axes if normalization.uses_n or not n]
    return [pytest.param(*case, marks=() if case in DEFAULT_CASES else pytest.mark.slow) for case in found]


@pytest.mark.parametrize(("format", "model_class", "normalization", "fixed_n"), cases())
def test_equal_to_the_model(tmp_path, format, model_class, normalization, fixed_n, build):
    fields = {"attention_normalization": normalization, "fixed_n": fixed_n, "classifier_pooling": "pair"}
    model = build(model_class, **fields, **WINDOW)
    exported = export_model(model, tmp_path / "out", format=format)
    assert exported.difference <= exported.tolerance == 1e-4
    shapes = SHAPES
    if model_class is GAUForMultipleChoice:
        shapes = [((batch, 4, seq), side) for (batch, seq), side in SHAPES]
    assert_equal_outputs(exported.path, model, shapes)
    inputs = sample_inputs(model, NAMES, shapes[0][0])
    assert list(load_exported(exported.path)(inputs)) == OUTPUTS[model_class]


@pytest.mark.slow
@pytest.mark.parametrize("rope_type", ["dynamic", "linear", "yarn"])
@pytest.mark.parametrize("format", export.EXPORT_FORMATS)
def test_scaled_rotary_positions(tmp_path, format, rope_type, build):
    """Beyond the length that was trained as well, where dynamic scaling depends on the batch's length."""
    rope = {"rope_type": rope_type, "factor": 4.0, "rope_theta": 10000.0}
    model = build(GAUModel, rope_parameters=rope, max_position_embeddings=16, use_bias=True)
    export_model(model, tmp_path / "out", format=format)
    assert_equal_outputs(tmp_path / "out", model, [((2, 8), "right"), ((2, 16), "right"), ((3, 40), "left")])


SERVED_FIELDS = [
    *({"attention_normalization": name} for name in ATTENTION_NORMALIZATIONS),
    {"query_key_offset_init": 1.4},
    {"use_bias": True, "query_key_offset_init": None},
    {"relative_position_bias": "distance"},
    {"relative_position_bias": "rotary"},
    WINDOW,
    WINDOW | {"attention_normalization": "softmax_sink", "relative_position_bias": "distance"},
]


@pytest.mark.parametrize("fields", SERVED_FIELDS, ids=lambda fields: "-".join(map(str, fields.values())))
@pytest.mark.parametrize(
    ("kind", "pooling"),
    [(GAUModel, "cls"), *((GAUForSequenceClassification, name) for name in ("cls", "mean", "pair"))],
)
def test_served_units(kind, pooling, fields, build):
    """They compute the same, those of a last layer that a classifier reads at one token too."""
    model = build(kind, **{"num_hidden_layers": 2, "classifier_pooling": pooling} | fields)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
        served = export._serving_copy(model)
        export._serve_units(served)
        first_only = kind is GAUForSequenceClassification and pooling == "cls" and "distance" not in fields.values()
        assert served.base_model.layers[-1].gau.first_only == (first_only and "layer_types" not in fields)
        for shape, side in SHAPES:
            inputs = sample_inputs(model, NAMES, shape, side)
            torch.testing.assert_close(dict(served(**inputs)), dict(model(**inputs)), rtol=1e-4, atol=1e-5)


def test_model_does_not_change(tmp_path, instant, monkeypatch, build):
    """What is served is a copy in float32 and evaluation mode, with the outputs that a plain call has."""
    monkeypatch.setitem(
        export.EXPORT_FORMATS["instant"].quantize, "int8", lambda source, target: source.rename(target)
    )
    model = build().train().bfloat16()
    model.set_attn_implementation("gau_blocked")
    model.config.output_hidden_states = True
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exported = export_model(model, tmp_path / "out", format="instant", quantize="int8")
    assert exported.difference < 1e-5
    assert model.training and model.dtype == torch.bfloat16 and model.config.output_hidden_states
    assert model.config._attn_implementation == "gau_blocked"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert AutoConfig.from_pretrained(tmp_path / "out").dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "names"),
    [(BertForSequenceClassification, NAMES), (ModernBertForSequenceClassification, NAMES[:2])],
)
def test_models_of_transformers(tmp_path, instant, tokenizer, kind, names, monkeypatch):
    """The inputs are those that the tokenizer makes and the model takes."""
    asked = []
    monkeypatch.setattr(export, "_traced_inputs", lambda model, names: asked.append(names))
    sizes = {"vocab_size": 48, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "pad_token_id": 0}
    export_model(kind(kind.config_class(**sizes)).eval(), tmp_path / "out", tokenizer, format="instant")
    assert asked == [names]


# Int8


@pytest.mark.parametrize(
    "normalization",
    [pytest.param(n, marks=() if n == "softmax_plus" else pytest.mark.slow) for n in ATTENTION_NORMALIZATIONS],
)
def test_int8(tmp_path, normalization, build):
    import onnx

    model = build(GAUForMaskedLM, vocab_size=2000, attention_normalization=normalization)
    with torch.no_grad():
        # Gate and value of token 7 are some 10 times as large as those of the others, and their product 100 times.
        model.model.embeddings.word_embeddings.weight[:, 0] = 0
        model.model.embeddings.token_type_embeddings.weight[:, 0] = 0
        model.model.embeddings.word_embeddings.weight[7, 0] = 10
        model.model.layers[0].gau.i_dense.weight[: 2 * model.config.intermediate_size, 0] = 2
    exported = export_model(model, tmp_path / "out", quantize="int8")
    assert 1e-4 < exported.difference < 0.1
    # Matrices and embeddings are int8, the head's too, which is tied to the embeddings.
    graph = onnx.load(exported.path).graph
    assert not [x.name for x in graph.initializer if x.data_type == x.FLOAT and len(x.dims) == 2 and x.dims[1] > 1]
    assert sum(node.op_type == "MatMulInteger" for node in graph.node) == 3
    floats = sum(parameter.numel() for parameter in model.parameters())
    assert exported.path.stat().st_size < 4 * 0.6 * floats

    # The wide token takes nothing from the resolution of the other row.
    program = load_exported(exported.path)
    inputs = sample_inputs(model, NAMES, (2, 6))
    inputs["input_ids"][1] = 7
    alone = {name: value[:1] for name, value in inputs.items()}
    with torch.no_grad():
        expected = model(**alone).logits
    found = program(inputs)["logits"][:1]
    assert (found - expected).norm() / expected.norm() < 0.1
    assert (found - program(alone)["logits"]).norm() / expected.norm() < 0.01


# Files


def test_onnx_directory(tmp_path, checkpoint, tokenizer):
    """What a server of Hugging Face checkpoints finds in the directory, and what it then computes."""
    import onnx

    exported = main(["--model_name_or_path", str(checkpoint), "--output_dir", str(tmp_path / "out")])
    assert exported.path == tmp_path / "out" / "model.onnx"
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= files_of(tmp_path / "out")
    assert files_of(tmp_path) == {"out"}
    graph = onnx.load(exported.path).graph
    axes = {node.name: [d.dim_param or d.dim_value for d in node.type.tensor_type.shape.dim] for node in graph.input}
    assert axes == {name: ["batch", "sequence"] for name in NAMES}
    assert [node.name for node in graph.output] == ["logits"]
    assert_holds_no_paths(exported.path)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "bad", 1: "good"} and config.architectures == ["GAUForSequenceClassification"]
    texts = ["a b c", "h"]
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, padding=True)
    model = GAUForSequenceClassification.from_pretrained(checkpoint)
    with torch.no_grad():
        expected = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(load_exported(tmp_path / "out")(batch)["logits"], expected, rtol=1e-4, atol=1e-5)
    assert_equal_outputs(exported.path, model)
    with pytest.raises(
        ValueError, match=r"takes input_ids, attention_mask, token_type_ids, but got no attention_mask"
    ):
        load_exported(exported.path)({"input_ids": [[1]], "token_type_ids": [[0]]})
    with pytest.raises(GAUError, match="attention_mask must be integers, but is float64"):
        load_exported(exported.path)({name: [[1]] for name in batch} | {"attention_mask": [[0.5]]})


def test_torch_export_needs_no_transformers(tmp_path, tokenizer, build):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model = build(GAUForTokenClassification, attention_normalization="normalized_squared_relu")
    exported = export_model(model, tmp_path / "out", tokenizer, format="torch_export")
    assert_holds_no_paths(exported.path)
    assert_equal_outputs(exported.path, model, names=tokenizer.model_input_names)
    code = (
        "import sys, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "ids = torch.ones(1, 3, dtype=torch.long)\n"
        "print(program(input_ids=ids, attention_mask=ids)['logits'].shape)\n"
        "assert 'transformers' not in sys.modules and 'modeling_gau' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, exported.path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 3, 2])" in done.stdout


def assert_holds_no_paths(program: Path) -> None:
    content = program.read_bytes()
    assert b"GatedAttentionUnit" in content  # what is written is not compressed
    assert str(Path(export.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


# Errors


@pytest.mark.parametrize("added", [0.1, float("nan")])
def test_wrong_program_is_not_written(tmp_path, instant, added, build):
    """Neither the program nor its directory, although the other output is right."""
    model, instant["end_logits"] = build(GAUForQuestionAnswering), added
    with pytest.raises(ExportError, match=r"differ from the model's by .* Nothing was written"):
        export_model(model, tmp_path / "out", format="instant")
    assert not files_of(tmp_path)
    if added == 0.1:
        exported = export_model(model, tmp_path / "tolerated", format="instant", tolerance=1.0)
        assert 1e-4 < exported.difference < exported.tolerance == 1.0
    instant["end_logits"] = 0.0
    assert export_model(model, tmp_path / "out", format="instant").difference == 0


def test_directory_that_is_not_empty(tmp_path, instant, build):
    model, out = build(), tmp_path / "out"
    out.mkdir()
    for name in ("notes.txt", "model.instant", "model.instant.data"):
        (out / name).write_text("old")
    with pytest.raises(ValueError, match=r"is not empty.*--overwrite_output_dir"):
        export_model(model, out, format="instant")
    export_model(model, out, format="instant", overwrite=True)
    assert (out / "notes.txt").read_text() == "old"
    assert (out / "model.instant").read_text() == "program"
    assert "model.instant.data" not in files_of(out)  # weights of the program that was replaced
    with pytest.raises(ValueError, match="is a file"):
        export_model(model, out / "notes.txt", format="instant", overwrite=True)


def test_unknown_formats_and_precisions(tmp_path, build):
    with pytest.raises(ValueError, match=r"Unknown format='tflite'\. Allowed: onnx, torch_export"):
        export_model(build(), tmp_path / "out", format="tflite")
    with pytest.raises(ValueError, match=r"does not support quantize='int8'. Allowed: int8 with format='onnx'"):
        export_model(build(), tmp_path / "out", format="torch_export", quantize="int8")
    with pytest.raises(ValueError, match=r"got a Linear\. Merge a PEFT adapter"):
        export_model(nn.Linear(2, 2), tmp_path / "out")
    assert not files_of(tmp_path)


def test_missing_packages_are_named(tmp_path, monkeypatch, build):
    present = export.importlib.util.find_spec
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda n: None if n.startswith("onnx") else present(n))
    with pytest.raises(ImportError, match=r'ONNX needs onnx, onnxscript, onnxruntime: .*"modeling-gau\[onnx\]"'):
        export_model(build(), tmp_path / "out")
    assert not files_of(tmp_path)


def test_module_does_not_import_onnx():
    tree = ast.parse(Path(export.__file__).read_text(encoding="utf-8"))
    imported = [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    imported += [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level]
    assert "torch" in imported
    assert not [name for name in imported if name.startswith("onnx")]


def test_task_of_the_checkpoint(tmp_path, checkpoint):
    arguments = ExportArguments(str(checkpoint), str(tmp_path / "out"))
    model, tokenizer = load_for_export(arguments)
    assert type(model) is GAUForSequenceClassification and model.dtype == torch.float32
    assert tokenizer.pad_token == "[PAD]"
    arguments.task = "feature-extraction"
    assert type(load_for_export(arguments)[0]) is GAUModel
    arguments.task = "question-answering"
    with pytest.raises(ValueError, match=r"qa_outputs.bias \(missing\).*not trained for question-answering"):
        load_for_export(arguments)
    with pytest.raises(ValueError, match=r"Unknown --task 'qa'\. Allowed: fill-mask, text-classification"):
        ExportArguments(str(checkpoint), str(tmp_path / "out"), task="qa")
    GAUConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"names no task. Give --task, one of fill-mask"):
        load_for_export(ExportArguments(str(tmp_path), str(tmp_path / "out")))


def test_damaged_weights(tmp_path, checkpoint):
    shutil.copytree(checkpoint, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"The weights of .*cut .model.safetensors. are damaged or cut short"):
        load_for_export(ExportArguments(str(tmp_path / "cut"), str(tmp_path / "out")))


def test_loading_from_an_empty_directory(tmp_path):
    with pytest.raises(
        ValueError, match=r"is neither an exported program nor a directory with one \(model.onnx, model.pt2\)"
    ):
        load_exported(tmp_path)
