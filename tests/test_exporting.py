# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Exported programs compute what the model does, for any shape, and nothing is written where one does not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from modeling_gau import (
    GAUConfig,
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
    exporting,
)
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS
from modeling_gau.exporting import (
    ExportError,
    export_model,
    load_exported,
    main,
    sample_inputs,
)


NAMES = ("input_ids", "attention_mask", "token_type_ids")
# Batch and length 1, other shapes than the traced one, either side of the padding.
SHAPES = [((1, 1), "right"), ((1, 7), "right"), ((3, 9), "right"), ((5, 70), "left")]


def make_model(model_class: type = GAUForSequenceClassification, **kwargs):
    torch.manual_seed(0)
    # Weights far from their initialization: otherwise a dropped mask would hardly change the outputs.
    sizes = {"vocab_size": 48, "hidden_size": 64, "intermediate_size": 96, "attention_key_size": 16}
    config = GAUConfig(**sizes | {"num_hidden_layers": 1, "initializer_range": 0.3} | kwargs)
    return model_class(config).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "classifier"
    make_model(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def assert_equal_outputs(path: Path, model: nn.Module, shapes=SHAPES, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    program = load_exported(path)
    for shape, side in shapes:
        inputs = sample_inputs(model, NAMES, shape, side)
        with torch.no_grad():
            torch.testing.assert_close(program(inputs), dict(model(**inputs)), rtol=rtol, atol=atol)


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --------------------------------------------------------------------------------------------------- what is computed


@pytest.mark.parametrize("format", exporting.EXPORT_FORMATS)
@pytest.mark.parametrize(
    ("normalization", "fixed_n"),
    [*((name, None) for name in ATTENTION_NORMALIZATIONS), ("softmax_plus", 20), ("squared_relu", 20)],
)
def test_normalizations(tmp_path, format, normalization, fixed_n):
    pooling = "cls" if fixed_n is None else "mean"
    model = make_model(attention_normalization=normalization, fixed_n=fixed_n, classifier_pooling=pooling)
    exported = export_model(model, tmp_path / "out", format=format)
    assert exported.difference <= exported.tolerance == 1e-4
    assert_equal_outputs(tmp_path / "out", model)


@pytest.mark.parametrize("format", exporting.EXPORT_FORMATS)
@pytest.mark.parametrize(
    ("model_class", "outputs"),
    [
        (GAUModel, ["last_hidden_state"]),
        (GAUForMaskedLM, ["logits"]),
        (GAUForTokenClassification, ["logits"]),
        (GAUForQuestionAnswering, ["start_logits", "end_logits"]),
    ],
)
def test_heads(tmp_path, format, model_class, outputs):
    model = make_model(model_class, use_bias=True)
    exported = export_model(model, tmp_path / "out", format=format)
    assert list(load_exported(exported.path)(sample_inputs(model, NAMES, (2, 3)))) == outputs
    assert_equal_outputs(tmp_path / "out", model)


@pytest.mark.parametrize("format", exporting.EXPORT_FORMATS)
def test_multiple_choice(tmp_path, format):
    model = make_model(GAUForMultipleChoice)
    export_model(model, tmp_path / "out", format=format)
    shapes = [((1, 2, 1), "right"), ((3, 4, 9), "right"), ((2, 5, 33), "left")]
    assert_equal_outputs(tmp_path / "out", model, shapes)


@pytest.mark.parametrize("rope_type", ["dynamic", "yarn"])
def test_scaled_rotary_positions(tmp_path, rope_type):
    """Beyond the length that was trained as well, where dynamic scaling depends on the batch's length."""
    rope = {"rope_type": rope_type, "factor": 4.0, "rope_theta": 10000.0}
    model = make_model(GAUModel, rope_parameters=rope, max_position_embeddings=16)
    export_model(model, tmp_path / "out")
    assert_equal_outputs(tmp_path / "out", model, [((2, 8), "right"), ((2, 16), "right"), ((3, 40), "left")])


def test_row_without_a_real_token(tmp_path):
    model = make_model()
    inputs = sample_inputs(model, NAMES, (2, 6))
    inputs["attention_mask"][1] = 0
    with torch.no_grad():
        expected = dict(model(**inputs))
    exported = export_model(model, tmp_path / "out")
    assert expected["logits"].isfinite().all()
    torch.testing.assert_close(load_exported(exported.path)(inputs), expected, rtol=1e-4, atol=1e-5)


def test_model_stays_as_it_is(tmp_path):
    model = make_model().train().bfloat16()
    model.set_attn_implementation("gau_blocked")
    model.config.output_hidden_states = True
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exported = export_model(model, tmp_path / "out", quantize="int8")
    assert model.training and model.dtype == torch.bfloat16 and model.config.output_hidden_states
    assert model.config._attn_implementation == "gau_blocked"
    assert type(model.model.layers[0].gau.o_dense) is nn.Linear
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert list(load_exported(exported.path)(sample_inputs(model, NAMES, (2, 3)))) == ["logits"]


# --------------------------------------------------------------------------------------------------------------- int8


@pytest.mark.parametrize("model_class", [GAUForSequenceClassification, GAUForMaskedLM])
@pytest.mark.parametrize("normalization", ["softmax_plus", "squared_relu"])
def test_int8(tmp_path, model_class, normalization):
    onnx = pytest.importorskip("onnx")
    model = make_model(model_class, vocab_size=600, attention_normalization=normalization, num_hidden_layers=2)
    exported = export_model(model, tmp_path / "int8", quantize="int8")
    float32 = export_model(model, tmp_path / "float32")
    assert 1e-4 < exported.difference < 0.05
    assert exported.path.stat().st_size < 0.5 * float32.path.stat().st_size
    # Matrices and embeddings are int8, those of a tied head too; what stays in float32 are vectors and narrow heads.
    graph = onnx.load(exported.path).graph
    left = [x for x in graph.initializer if x.data_type == x.FLOAT and len(x.dims) == 2 and min(x.dims) > 2]
    assert not left
    products = sum(node.op_type == "MatMulInteger" for node in graph.node)
    assert products == 2 * model.config.num_hidden_layers + (model_class is GAUForMaskedLM)


def test_int8_serves_wide_rows_and_narrow_rows_alike(tmp_path):
    """One token of large activations must not take the resolution of the others, of its batch or of another's."""
    model = make_model(GAUModel, type_vocab_size=1)
    with torch.no_grad():
        # Gate and value of one token become 30 times as large, and their product 900 times.
        model.embeddings.word_embeddings.weight[7] = 0
        model.embeddings.word_embeddings.weight[7, 0] = 1
        model.model_input = None
        model.layers[0].gau.i_dense.weight[:192, 0] *= 30
    exported = export_model(model, tmp_path / "out", quantize="int8", tolerance=1.0)
    inputs = {"input_ids": torch.tensor([[8, 9, 10, 11], [7, 7, 7, 7]])}
    inputs |= {"attention_mask": torch.ones(2, 4, dtype=torch.long), "token_type_ids": torch.zeros(2, 4).long()}
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[0]
    found = load_exported(exported.path)(inputs)["last_hidden_state"][0]
    assert (found - expected).norm() / expected.norm() < 0.05


# ------------------------------------------------------------------------------------------------------- what is written


def test_onnx_directory(tmp_path, checkpoint, tokenizer):
    onnx = pytest.importorskip("onnx")
    exported = main(["--model_name_or_path", str(checkpoint), "--output_dir", str(tmp_path / "out")])
    assert exported.path == tmp_path / "out" / "model.onnx"
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= files_of(tmp_path / "out")
    assert files_of(tmp_path) == {"out"}
    graph = onnx.load(exported.path).graph
    axes = {node.name: [d.dim_param or d.dim_value for d in node.type.tensor_type.shape.dim] for node in graph.input}
    assert axes == dict.fromkeys(NAMES, ["batch", "sequence"])
    assert [node.name for node in graph.output] == ["logits"]
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "bad", 1: "good"} and config.architectures == ["GAUForSequenceClassification"]
    texts = ["a b c", "h"]
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, padding=True)
    model = GAUForSequenceClassification.from_pretrained(checkpoint)
    with torch.no_grad():
        expected = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(load_exported(tmp_path / "out")(batch)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_programs_hold_no_paths(tmp_path):
    for format in exporting.EXPORT_FORMATS:
        exported = export_model(make_model(), tmp_path / format, format=format)
        content = exported.path.read_bytes()
        assert str(Path(exporting.__file__).parent).encode() not in content
        assert b"stack_trace" not in content


def test_torch_export_needs_no_transformers(tmp_path):
    exported = export_model(make_model(), tmp_path / "out", format="torch_export")
    code = (
        "import sys, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "ids = torch.ones(1, 3, dtype=torch.long)\n"
        "print(program(input_ids=ids, attention_mask=ids, token_type_ids=ids)['logits'].shape)\n"
        "assert 'transformers' not in sys.modules and 'modeling_gau' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, exported.path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 2])" in done.stdout


def test_inputs_follow_the_tokenizer(tmp_path, tokenizer):
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
    plain.model_input_names = ["input_ids", "attention_mask"]
    model = make_model()
    program = load_exported(export_model(model, tmp_path / "out", plain).path)
    inputs = sample_inputs(model, ("input_ids", "attention_mask"), (2, 5))
    with torch.no_grad():
        torch.testing.assert_close(program(inputs)["logits"], model(**inputs).logits, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_wrong_program_is_not_written(tmp_path, monkeypatch):
    """A program that leaves the mask out is found out, and there is no directory afterwards."""

    class Unmasked(exporting._ServedModel):
        def forward(self, input_ids, attention_mask=None, token_type_ids=None):
            return super().forward(input_ids, attention_mask.clamp(min=1), token_type_ids)

    monkeypatch.setattr(exporting, "_ServedModel", Unmasked)
    with pytest.raises(ExportError, match=r"differ from the model's by .* Nothing was written"):
        export_model(make_model(), tmp_path / "out", format="torch_export")
    assert not files_of(tmp_path)


def test_not_a_number_is_a_difference(tmp_path):
    model = make_model()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    with pytest.raises(ExportError, match="nan"):
        export_model(model, tmp_path / "out", format="torch_export")
    assert not files_of(tmp_path)


def test_directory_that_is_not_empty(tmp_path):
    model, out = make_model(), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "model.pt2").write_text("old")
    with pytest.raises(ValueError, match="is not empty.*--overwrite_output_dir"):
        export_model(model, out, format="torch_export")
    export_model(model, out, format="torch_export", overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert_equal_outputs(out, model, SHAPES[:1])
    with pytest.raises(ValueError, match="is a file"):
        export_model(model, out / "notes.txt", overwrite=True)


def test_unknown_formats_and_precisions(tmp_path):
    with pytest.raises(ValueError, match="Unknown format='tflite'. Allowed: onnx, torch_export"):
        export_model(make_model(), tmp_path / "out", format="tflite")
    with pytest.raises(ValueError, match="quantize='int8' does not go with .*Allowed: int8 with format='onnx'"):
        export_model(make_model(), tmp_path / "out", format="torch_export", quantize="int8")
    with pytest.raises(ValueError, match="not a Linear. Merge a PEFT adapter"):
        export_model(nn.Linear(2, 2), tmp_path / "out")
    assert not files_of(tmp_path)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    present = exporting.importlib.util.find_spec
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda n: None if n.startswith("onnx") else present(n))
    with pytest.raises(ImportError, match=r'onnx, onnxscript, onnxruntime, which are .*"modeling-gau\[onnx\]"'):
        export_model(make_model(), tmp_path / "out")
    assert not files_of(tmp_path)


def test_package_and_module_import_without_onnx():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['onnx', 'onnxscript', 'onnxruntime']))\n"
        "import modeling_gau.exporting\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_task_of_the_checkpoint(tmp_path, checkpoint):
    arguments = ["--model_name_or_path", str(checkpoint), "--output_dir", str(tmp_path / "out")]
    arguments += ["--format", "torch_export"]
    with pytest.raises(ValueError, match=r"has no weights for qa_outputs.bias.*not trained for question-answering"):
        main([*arguments, "--task", "question-answering"])
    with pytest.raises(ValueError, match="Unknown --task 'qa'. Allowed: fill-mask, text-classification"):
        main([*arguments, "--task", "qa"])
    exported = main([*arguments, "--task", "feature-extraction"])
    assert list(load_exported(exported.path)(sample_inputs(make_model(), NAMES, (1, 2)))) == ["last_hidden_state"]


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"is no exported program and no directory with one \(model.onnx, model.pt2\)"
    ):
        load_exported(tmp_path)
