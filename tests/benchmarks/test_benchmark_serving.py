# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, ModernBertConfig

from modeling_gau import GAUConfig


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {"vocab_size": 60, "hidden_size": 64, "num_hidden_layers": 1, "initializer_range": 0.3}
IDS = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
CONFIGS = {
    "gau": GAUConfig(**SIZES, intermediate_size=96),
    "bert": BertConfig(**SIZES, intermediate_size=96, num_attention_heads=2),
    "modernbert": ModernBertConfig(**SIZES, **IDS, intermediate_size=64, num_attention_heads=2),
}


@pytest.fixture(autouse=True)
def threads():
    """As many as before: processes that other tests fork do not have the threads of OpenMP."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import benchmark_serving

        yield benchmark_serving


@pytest.fixture
def rows(tmp_path) -> Path:
    lines = [{"sentence": f"w{5 + i} w{40 - i} w{7 + i}"[: 3 + i], "label": i % 2} for i in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def test_fine_tuned_models_side_by_side(script, rows, tmp_path, tokenizer):
    for name, config in CONFIGS.items():
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    words = ["--model_name_or_path", tmp_path / "gau", "--beside", tmp_path / "bert", tmp_path / "modernbert"]
    words += ["--validation_file", rows, "--variants", "PyTorch float32", "ONNX int8", "--threads", 1, 2]
    script.main([*map(str, words), "--rounds", "2", "--batch_sizes", "3", "--output", str(tmp_path / "out.csv")])
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        found = {(row["model"], row["threads"], row["variant"]): row for row in csv.DictReader(file)}
    assert len(found) == 3 * 2 * 2
    for name in CONFIGS:
        plain, int8 = found[name, "1", "PyTorch float32"], found[name, "1", "ONNX int8"]
        assert float(int8["accuracy_change"]) == float(int8["accuracy"]) - float(plain["accuracy"])
        assert int(int8["changed"]) <= 3
        assert float(int8["first_model_speedup_3"]) == 1 or name != "gau"
    assert float(found["bert", "2", "ONNX int8"]["first_model_speedup_3_min"]) > 0


def classify(script, config, rows, tokenizer, *words):
    model = AutoModelForSequenceClassification.from_config(config).eval()
    args = script.parse_arguments(["--model_name_or_path", "gau", "--validation_file", str(rows), *words])
    return args, script.Classifier(
        model, tokenizer, {script.BASELINE: (lambda _: lambda batch: model(**batch).logits, 1)}
    )


def test_each_model_has_its_own_order_of_the_classes(script, rows, tokenizer):
    orders, found = (("negative", "positive"), ("Positive", "Negative")), []
    for names in orders:
        config = BertConfig(**SIZES, intermediate_size=96, num_attention_heads=2, id2label=dict(enumerate(names)))
        config.architectures, config.label2id = ["BertForSequenceClassification"], {names[0]: 0, names[1]: 1}
        args, classifier = classify(script, config, rows, tokenizer)
        head = classifier.model.classifier
        head.weight.data.zero_()
        head.bias.data = torch.tensor([0.0, 1.0] if names is orders[0] else [1.0, 0.0])  # always positive
        lines = script.read_rows(args)[:4] + script.read_rows(args)[1:2]  # 0, 1, 0, 1, 1
        with torch.no_grad():
            found.append(script.measure_quality(args, classifier, lines)[script.BASELINE])
    assert found[0] == found[1] == {"accuracy": 0.6, "accuracy_change": 0.0, "changed": 0}


def test_scores_are_compared_as_scores(script, rows, tokenizer):
    config = BertConfig(**SIZES, intermediate_size=96, num_attention_heads=2, num_labels=1)
    config.architectures = ["BertForSequenceClassification"]
    args, classifier = classify(script, config, rows, tokenizer, "--task_name", "stsb")
    with torch.no_grad():
        found = script.measure_quality(args, classifier, script.read_rows(args))[script.BASELINE]
    assert {"pearson", "spearmanr"} <= found.keys() and "changed" not in found
    assert -1 <= found["pearson"] <= 1


def test_random_weights_by_type_and_sizes(script, rows, tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    words = ["--config_name", "gau-tiny", "--tokenizer_name", str(tmp_path / "tokenizer")]
    words += ["--validation_file", str(rows), "--beside", "bert:num_hidden_layers=1", "modernbert"]
    args = script.parse_arguments(words)
    assert list(args.sources) == ["gau-tiny", "bert", "modernbert"]
    model, _ = script.load(args, args.sources["bert"])
    assert (model.config.num_hidden_layers, model.config.vocab_size) == (1, 60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--beside", "a", "a"], "twice"),
        (["--task_name", "multi_label"], "invalid choice: 'multi_label'"),
        (["--cpu_time", "--threads", "1", "2"], "--threads 1"),
        (["--variants", "ONNX int8"], "PyTorch float32"),
    ],
)
def test_refused(script, rows, capsys, words, message):
    with pytest.raises(SystemExit):
        script.parse_arguments(["--model_name_or_path", "gau", "--validation_file", str(rows), *words])
    assert message in capsys.readouterr().err
