# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`run_glue.py` on data of CLUE from end to end: official folders and the Hub, a tiny Chinese model, a few rows."""

import json
import zipfile
from functools import partial

import glue_runs
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from glue_runs import read_predictions, write
from huggingface_hub import ModelCard
from transformers import AutoConfig, BertTokenizer

from modeling_gau.glue import data as glue_data
from modeling_gau.glue.tasks import BENCHMARKS, CLUE_TASKS


CHARACTERS = "天下雨房价涨了不算法水声提出一种手机它响；，_[]"
run = partial(glue_runs.run, dataset_name="clue", per_device_train_batch_size=4)


pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, make_model):
    path = tmp_path_factory.mktemp("pretrained")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(vocabulary)}).save_pretrained(path)
    widths = {"vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 64, "attention_key_size": 16}
    make_model(num_hidden_layers=1, initializer_range=None, **widths).save_pretrained(path)
    return str(path)


def news(count: int) -> list[dict]:
    codes = ("106", "104")
    return [
        {"label": codes[row % 2], "label_desc": "news", "sentence": ("房价涨了", "天下雨了")[row % 2], "keywords": ""}
        for row in range(count)
    ]


def keywords(count: int) -> list[dict]:
    return [
        {"abst": "提出一种算法", "keyword": ["算法", ("水声", "手机")[row % 2]], "label": row % 2}
        for row in range(count)
    ]


def hidden(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "label"} for row in rows]


def test_tnews_from_its_official_folder(tmp_path, pretrained):
    folder, output = tmp_path / "data" / "tnews_public", tmp_path / "out"
    write(folder / "train.json", news(16))
    write(folder / "dev.json", news(6))
    write(folder / "test.json", hidden(news(4)))
    data = {"task_name": "tnews", "data_dir": tmp_path / "data"}
    options = {"model_name_or_path": pretrained, "learning_rate": 1e-2, "num_train_epochs": 8, "language": "zh"}
    results = run(output, "do_train", "do_eval", "do_predict", **data, **options)
    assert results["eval_accuracy"] == 1.0 and results["eval_samples"] == 6
    config = AutoConfig.from_pretrained(output)
    assert tuple(config.id2label.values()) == CLUE_TASKS["tnews"].label_names and config.label2id["106"] == 5
    assert read_predictions(output / "predictions_test.tsv") == ["106", "104"] * 2
    card = ModelCard.load(output / "README.md")
    assert "with the columns of the CLUE task tnews" in card.text and "GLUE" not in card.text
    assert f'print(classify("{BENCHMARKS["clue"].example_text}"))' in card.text
    # The checkpoint knows its classes by these codes.
    again = run(tmp_path / "again", "do_eval", model_name_or_path=output, **data)
    assert again["eval_accuracy"] == 1.0
    # And a model of another benchmark is not evaluated.
    (output / "config.json").write_text(
        json.dumps(config.to_dict() | {"id2label": {0: "negative", 1: "positive"}, "label2id": None})
    )
    with pytest.raises(ValueError, match="classifier knows negative, positive; tnews has 100, 101"):
        run(tmp_path / "out2", "do_eval", model_name_or_path=output, **data)


def test_csl_from_the_hub(tmp_path, pretrained, monkeypatch):
    features = Features(
        {"abst": Value("string"), "label": ClassLabel(names=["0", "1"]), "keyword": List(Value("string"))}
    )
    test = [row | {"label": -1} for row in keywords(2)]
    splits = {"train": keywords(4), "validation": keywords(2), "test": test}
    splits = {name: Dataset.from_list(rows, features=features) for name, rows in splits.items()}
    monkeypatch.setattr(glue_data, "load_dataset", lambda *names, **options: DatasetDict(splits))
    seen = []
    tokenize = glue_data.tokenize_split

    def spy(rows, *arguments):
        seen.append(tokenize(rows, *arguments))
        return seen[-1]

    monkeypatch.setattr("modeling_gau.glue.data.tokenize_split", spy)
    output = tmp_path / "out"
    flags = ("do_train", "do_eval", "do_predict")
    results = run(output, *flags, task_name="csl", model_name_or_path=pretrained, max_steps=1)
    assert results["eval_samples"] == 2 and "test_accuracy" not in results
    tokenizer = BertTokenizer.from_pretrained(pretrained)
    first, second = (tokenizer.convert_tokens_to_ids(list(text)) for text in ("算法；水声", "提出一种算法"))
    assert seen[0]["input_ids"][0] == [2, *first, 3, *second, 3]
    assert seen[0]["token_type_ids"][0] == [0] * 7 + [1] * 7
    predicted = read_predictions(output / "predictions_test.tsv")
    assert len(predicted) == 2 and set(predicted) <= {"0", "1"}
    card = ModelCard.load(output / "README.md")
    assert card.data.datasets == ["clue/clue"]
    assert "Trained on csl of [CLUE](https://huggingface.co/datasets/clue/clue) (classes: 0, 1). An " in card.text
    assert "a pair: the keywords, joined by `；`, and the abstract." in card.text
    assert '"text": "桥梁；裂缝；图像识别", "text_pair": "本文根据' in card.text
    (measured,) = card.data.eval_results
    assert (measured.dataset_type, measured.dataset_name, measured.dataset_config) == ("clue/clue", "CLUE", "csl")


def test_two_tasks_make_a_submission(tmp_path, pretrained, capsys):
    pairs = [
        {"sentence1": "天下雨", "sentence2": "不下雨", "label": label} for label in ("contradiction", "-", "neutral")
    ]
    target = {"span1_text": "手机", "span1_index": 0, "span2_text": "它", "span2_index": 3}
    spans = [{"text": "手机，它响了", "target": target, "label": label} for label in ("true", "false")]
    for name, rows in (("ocnli", pairs), ("cluewsc2020", spans)):
        folder = tmp_path / "data" / f"{name}_public"
        write(folder / ("train.50k.json" if name == "ocnli" else "train.json"), rows)
        write(folder / "dev.json", rows)
        write(folder / "test.json", hidden(rows))
    results = run(
        tmp_path / "out",
        task_name="ocnli,cluewsc2020",
        data_dir=tmp_path / "data",
        model_name_or_path=pretrained,
        max_steps=1,
    )
    assert set(results) >= {"ocnli_eval_accuracy", "cluewsc2020_eval_accuracy"}
    assert (results["ocnli_eval_samples"], results["ocnli_test_samples"]) == (2, 3)
    printed = capsys.readouterr().out
    assert "Split validation: 1 of 3 rows have the label '-' and are left out." in printed
    assert "mean of 2 tasks, not the CLUE classification score" in printed
    card = ModelCard.load(tmp_path / "out/cluewsc2020/seed-42/README.md")
    assert "the noun marked as `_noun_` and the pronoun as `[pronoun]`." in card.text
    assert '"小李把_雨伞_忘在车上了，回去的时候[它]还在座位下面"' in card.text
    with zipfile.ZipFile(tmp_path / "out" / "clue_submission.zip") as file:
        assert file.namelist() == ["ocnli_50k_predict.json", "cluewsc11_predict.json"]
        lines = [json.loads(line) for line in file.read("cluewsc11_predict.json").splitlines()]
        assert {line["label"] for line in lines} <= {"true", "false"} and [line["id"] for line in lines] == [0, 1]
        lines = [json.loads(line) for line in file.read("ocnli_50k_predict.json").splitlines()]
        assert [line["label"] for line in lines] == read_predictions(
            tmp_path / "out/ocnli/seed-42/predictions_test.tsv"
        )


def test_labelled_test_rows_without_agreement_are_predicted(tmp_path, pretrained, capsys):
    labels = ("neutral", "-", "entailment")
    rows = write(tmp_path / "rows.json", [{"sentence1": "天", "sentence2": "雨", "label": label} for label in labels])
    data = {"task_name": "ocnli", "train_file": rows, "test_file": rows}
    results = run(tmp_path / "out", "do_train", "do_predict", **data, model_name_or_path=pretrained, max_steps=1)
    assert results["test_samples"] == 3 and "test_accuracy" not in results
    assert len(read_predictions(tmp_path / "out/predictions_test.tsv")) == 3
    message = "Split test: 1 of 3 rows have the label '-'; all rows are predicted, without metrics."
    assert message in capsys.readouterr().out
