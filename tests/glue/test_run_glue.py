# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`run_glue.py` from end to end, on tiny data, with a tiny tokenizer and a tiny masked-LM checkpoint."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from glue_runs import read_json, read_predictions, read_rows, run, write
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    pipeline,
)

import run_glue
from modeling_gau import GAUForMaskedLM, GAUForSequenceClassification
from modeling_gau.glue.tasks import BENCHMARKS
from modeling_gau.glue.trainer import GlueTrainer
from modeling_gau.runs import progress
from modeling_gau.runs.locks import lock


WORDS = ["good", "bad", "same", "other", "film", "book", "a", "is", "the", "this"]
MNLI = ("entailment", "neutral", "contradiction")


pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture(scope="module")
def save_model(tmp_path_factory, make_model, make_tokenizer):
    """Saves a tiny model with its tokenizer; returns where."""

    def save(kind: type = GAUForMaskedLM, dtype: torch.dtype = torch.float32, **fields) -> str:
        path = tmp_path_factory.mktemp("checkpoint")
        widths = {"vocab_size": 15, "hidden_size": 32, "intermediate_size": 64, "attention_key_size": 16}
        others = {"num_hidden_layers": 2, "initializer_range": None} | fields
        make_model(kind, **widths, **others).to(dtype).save_pretrained(path)
        make_tokenizer(WORDS).save_pretrained(path)
        return str(path)

    return save


@pytest.fixture(scope="module")
def pretrained(save_model) -> str:
    return save_model(attention_normalization="squared_relu", fixed_n=16)


def named(names: tuple[str, ...]) -> dict:
    """The two maps of a configuration."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


@pytest.fixture(scope="module")
def classifier(save_model) -> str:
    """A sequence classifier whose classes are not in the order of the task."""
    return save_model(GAUForSequenceClassification, **named(("positive", "negative")))


@pytest.fixture
def sst2(tmp_path, pretrained) -> dict[str, object]:
    """Options of a run on eight rows."""
    data = write(tmp_path / "rows.jsonl", sentiment(8))
    return {"task_name": "sst2", "train_file": data, "validation_file": data, "model_name_or_path": pretrained}


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    widths = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    path = tmp_path_factory.mktemp("bert")
    BertForMaskedLM(BertConfig(vocab_size=15, **widths)).save_pretrained(path)
    return path


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sentiment(count: int) -> list[dict]:
    """One word decides: the rows are bad and good by turns."""
    return [
        {"sentence": f"{'this' if row % 3 else 'the'} {WORDS[4 + row % 3]} is {WORDS[1 - row % 2]}", "label": row % 2}
        for row in range(count)
    ]


@pytest.fixture
def reviews(tmp_path, pretrained) -> dict[str, object]:
    """Options of a run on two files of one's own; one word decides."""
    rows = [{"review": row["sentence"], "verdict": ("no", "yes")[row["label"]]} for row in sentiment(25)]
    files = {
        "train_file": write(tmp_path / "train.csv", rows),
        "validation_file": write(tmp_path / "dev.csv", rows[:9]),
    }
    return files | {"text_column": "review", "label_column": "verdict", "model_name_or_path": pretrained}


def test_a_file_is_compared_with_baselines(tmp_path, reviews, capsys, monkeypatch):
    run(tmp_path / "out", **reviews, learning_rate=0, num_train_epochs=1)
    printed = capsys.readouterr().out
    rows = {line[:15].strip(): line.split()[-2:] for line in printed.splitlines()}
    assert len(rows["this model"]) == 2
    assert rows["majority class"][0] == "0.5556" and rows["bag of words"] == ["1.0000", "1.0000"]
    assert "The model does not differ clearly from the majority class (accuracy " in printed
    assert "Nothing shows yet that this model has learned anything useful." in printed
    assert "A new head with random weights on the encoder of " in printed
    assert read_json(tmp_path / "out/run.json")["baselines"]["bag of words"]["accuracy"] == 1.0
    for module in ("baselines", "report"):
        monkeypatch.setattr(f"modeling_gau.glue.{module}.is_sklearn_available", lambda: False)
    run(tmp_path / "without", **reviews, max_steps=1)
    printed = capsys.readouterr().out
    assert (
        "To compare with a bag of words as well: pip install scikit-learn." in printed
        and "bag of words  " not in printed
    )


def test_a_file_shows_which_classes_are_confused_and_every_prediction(tmp_path, reviews, capsys):
    texts = ['a "quoted"\ttext\nof two lines', "a lone\rcarriage return"]
    unlabelled = write(tmp_path / "new.csv", [{"review": text} for text in texts])
    flags = ("do_train", "do_eval", "do_predict")
    run(tmp_path / "out", *flags, **reviews, test_file=unlabelled, learning_rate=5e-3, num_train_epochs=5)
    printed = capsys.readouterr().out
    # Four rows of nine are too few to be sure.
    assert (
        "from the majority class (accuracy +0.444 ± 0.272) and the bag of words (accuracy +0.000 ± 0.157)" in printed
    )
    before = read_json(tmp_path / "out/run.json")
    table = [line.split() for line in printed.splitlines()]
    assert ["no", "13", "5", "1.000", "1.000", "1.000"] in table and [
        "yes",
        "12",
        "4",
        "1.000",
        "1.000",
        "1.000",
    ] in table
    assert ["no", "5", "0"] in table and ["yes", "0", "4"] in table
    assert (tmp_path / "out/confusion.png").read_bytes().startswith(b"\x89PNG")
    rows = read_rows(tmp_path / "out/predictions_validation.tsv")
    assert list(rows[0]) == ["review", "label", "prediction", "probability"]
    assert rows[0]["review"] == sentiment(1)[0]["sentence"] and len(rows) == 9
    assert all(row["label"] == row["prediction"] and 0.5 < float(row["probability"]) <= 1 for row in rows)
    rows = read_rows(tmp_path / "out/predictions_test.tsv")
    assert list(rows[0]) == ["review", "prediction", "probability"] and [row["review"] for row in rows] == texts
    # An evaluation without training rows keeps what is known of them.
    reviews = {name: value for name, value in reviews.items() if name != "train_file"}
    run(tmp_path / "out", "do_eval", **reviews | {"model_name_or_path": tmp_path / "out"})
    after = read_json(tmp_path / "out/run.json")
    assert [row["train"] for row in after["classes"]] == [13, 12] and after["baselines"] == before["baselines"]
    assert "bag of words" not in capsys.readouterr().out


def test_the_card_of_a_file_says_what_a_reader_wants_to_know(tmp_path, reviews, monkeypatch, capsys):
    options = {"learning_rate": 5e-3, "num_train_epochs": 5, "language": "zh", "run_name": "reviews"}
    run(tmp_path / "out", **reviews, **options)
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "Sorts a text into one of 2 classes: no, yes. Its accuracy on the validation rows is 1" in card
    assert "(majority class 0.5556, bag of words 1). The model does not differ clearly from the majority class" in card
    assert "| train | 25 | 6 | 6 | 6 |" in card and "| validation | 9 |" in card
    assert "| no | 13 | 5 | 1 | 1 | 1 |" in card and "](confusion.png)" in card
    assert "Fewer than 20 training rows: no, yes." in card and "Apache-2.0" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    assert BENCHMARKS["clue"].example_text in code
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(code, {})
    assert "score" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "metric"), [("csv", "accuracy"), ("pairs", "accuracy"), ("labels", "f1_micro"), ("scores", "pearson")]
)
def test_recipes_run_as_they_are_on_the_files_that_they_describe(name, metric, tmp_path, monkeypatch):
    repository = Path(run_glue.__file__).parent
    recipe = repository / f"configuration/recipes/glue/my-{name}.yaml"
    example = [line[1:].strip() for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    start = next(number for number, line in enumerate(example) if line.startswith("text,"))
    header, *rows = example[start : start + 3]
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation"):
        Path(f"{split}.csv").write_text("\n".join([header, *rows * 2]) + "\n", encoding="utf-8")
    Path("checkpoints").symlink_to(repository / "checkpoints")
    results = run_glue.main(
        ["--config", str(recipe), "--use_cpu", "--disable_tqdm", "true", "--num_train_epochs", "2"]
    )
    assert f"eval_{metric}" in results and results["eval_samples"] == 4
    output = Path(f"outputs/my-{name}")
    assert len(read_rows(output / "predictions_validation.tsv")) == 4
    assert read_json(output / "run.json")["arguments"]["metric_for_best_model"] == metric
    assert (output / "README.md").exists() and len(list(output.glob("checkpoint-*"))) <= 2


def test_files_with_several_seeds(tmp_path, pretrained, capsys):
    scores = [{"text": row["sentence"], "stars": 1.5 + 2 * row["label"]} for row in sentiment(8)]
    data = write(tmp_path / "rows.csv", scores)
    files = {"train_file": data, "validation_file": data, "text_column": "text", "label_column": "stars"}
    output = tmp_path / "reviews"
    results = run(output, **files, model_name_or_path=pretrained, seeds=[0, 1], grid=["learning_rate=1e-3,1e-9"])
    runs = sorted(path.parent.relative_to(output).as_posix() for path in output.glob("**/model.safetensors"))
    assert runs == [f"learning_rate-{rate}/seed-{seed}" for rate in ("0.001", "1e-09") for seed in (0, 1)]
    printed = capsys.readouterr().out
    assert "Learning rate" not in printed  # the grid gives it
    header, _, pearson = (output / "report.md").read_text(encoding="utf-8").splitlines()[2:5]
    assert header == "| metric | mean | std | mean score | bag of words | seed 0 | seed 1 |"
    assert pearson.split(" | ")[3] == "-"
    assert "(the best of 2 seeds there: expect the mean on other rows)" in printed
    summary = read_json(output / "results.json")["tasks"]["local"]
    assert results["eval_pearson"] == pytest.approx(summary["metrics"]["pearson"]["mean"])
    best = output / f"learning_rate-{summary['point']['learning_rate']}" / f"seed-{summary['best_seed']}"
    card = (best / "README.md").read_text(encoding="utf-8")
    assert " the mean of 2 seeds " in f" {card}".lower() and "the seed (of 2)" in card
    assert "| Pearson |" in card and "Scores of the training rows range from 1.5 to 3.5." in card
    # The pipeline of the card's example gives scores as they are.
    (first, *_) = read_rows(best / "predictions_validation.tsv")
    assert first["label"] == "1.5" and list(first) == ["text", "label", "prediction"]
    (answer,) = pipeline("text-classification", model=str(best))([first["text"]])
    assert answer["score"] == pytest.approx(float(first["prediction"]), abs=1e-4)
    assert AutoConfig.from_pretrained(best).problem_type == "regression"


def pairs(count: int, first: str = "sentence1", second: str = "sentence2", names=(0, 1)) -> list[dict]:
    return [
        {first: f"a {WORDS[4 + row % 2]}", second: WORDS[2 + row % 2], "label": names[row % len(names)]}
        for row in range(count)
    ]


def test_classification_learns_reports_and_predicts(tmp_path, pretrained, capsys):
    hidden = [{"sentence": row["sentence"], "label": -1} for row in sentiment(6)]
    output = tmp_path / "out"
    data = {
        "train_file": write(tmp_path / "train.jsonl", sentiment(48)),
        "validation_file": write(tmp_path / "dev.csv", sentiment(11)),
        "test_file": write(tmp_path / "test.jsonl", hidden),
    }
    options = {"task_name": "sst2", "model_name_or_path": pretrained, "learning_rate": 5e-3, "num_train_epochs": 5}
    options |= {"train_sampling_strategy": "group_by_length"}
    options |= {"save_strategy": "epoch", "save_total_limit": 1}
    results = run(output, "do_train", "do_eval", "do_predict", "load_best_model_at_end", **data, **options)
    assert results["eval_accuracy"] == 1.0
    assert results["eval_samples"] == 11 and results["train_samples"] == 48
    assert read_json(output / "all_results.json").items() >= {"eval_accuracy": 1.0, "test_samples": 6}.items()
    assert read_json(output / "eval_results.json")["eval_loss"] == results["eval_loss"]
    assert "test_accuracy" not in results
    assert read_json(output / "trainer_state.json")["best_metric"] == 1.0
    # In the order of the file, although rows are grouped by length.
    assert read_predictions(output / "predictions_test.tsv") == ["negative", "positive"] * 3

    config = AutoConfig.from_pretrained(output)
    assert config.id2label == {0: "negative", 1: "positive"} and config.label2id == {"negative": 0, "positive": 1}
    assert (config.problem_type, config.fixed_n) == ("single_label_classification", 16)
    answers = pipeline("text-classification", model=str(output))(["this film is bad", "the book is good"])
    assert [answer["label"] for answer in answers] == ["negative", "positive"]

    card = (output / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card and "train.jsonl" in card
    printed = capsys.readouterr().out.splitlines()
    table = [line.split() for line in printed if line.startswith(("sst2 ", "validation ", "test "))]
    assert table[0] == ["sst2", "samples", "loss", "accuracy"]
    assert table[1] == ["validation", "11", f"{results['eval_loss']:.4f}", "1.0000"]
    assert table[2] == ["test", "6", "-", "-"]
    epochs = [line.split() for line in printed if line.split()[:1] in (["epoch"], ["1"], ["5"])]
    best = read_json(output / "trainer_state.json")["best_global_step"]
    assert epochs[0] == ["epoch", "step", "loss", "accuracy"] and [row[:2] for row in epochs[1:]] == [
        ["1", "6"],
        ["5", "30"],
    ]
    assert [line.split()[1] for line in printed if line.endswith("best")] == [str(best)]
    assert f"Wrote to {output}:" in printed and "  predictions_test.tsv" in printed


@pytest.mark.parametrize(("max_seq_length", "expected"), [(16, 512), (600, 600)])
def test_the_tokenizer_goes_by_the_longest_rows_of_both_trainings(tmp_path, sst2, max_seq_length, expected):
    run(tmp_path / "out", **sst2, max_seq_length=max_seq_length, max_steps=1)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == expected


def test_regression(tmp_path, pretrained):
    data = write(tmp_path / "rows.csv", pairs(24, names=(0.5, 4.5)))
    output = tmp_path / "out"
    options = {"task_name": "stsb", "train_file": data, "validation_file": data, "test_file": data}
    options |= {"model_name_or_path": pretrained, "learning_rate": 3e-3, "num_train_epochs": 15}
    results = run(output, "do_train", "do_eval", "do_predict", **options)
    assert results["eval_pearson"] > 0.95
    assert results["eval_pearson"] > 0 and "eval_spearmanr" in results
    assert results["test_pearson"] == pytest.approx(results["eval_pearson"])  # the labels of the test file are known
    config = AutoConfig.from_pretrained(output)
    assert (config.problem_type, config.id2label) == ("regression", {0: "similarity"})
    scores = [float(score) for score in read_predictions(output / "predictions_test.tsv")]
    assert len(scores) == 24 and max(scores[::2]) < min(scores[1::2])


def test_local_pairs_of_any_classes_and_their_checkpoint(tmp_path, pretrained):
    output = tmp_path / "out"
    train = write(tmp_path / "train.csv", pairs(32, names=("yes", "no")))
    dev = write(tmp_path / "dev.csv", pairs(8, names=("yes", "no")))
    options = {"model_name_or_path": pretrained, "learning_rate": 3e-3, "num_train_epochs": 8}
    trained = run(output, train_file=train, validation_file=dev, **options)
    assert trained["eval_accuracy"] == 1.0
    assert AutoConfig.from_pretrained(output).id2label == {0: "no", 1: "yes"}

    # The classes now come from the checkpoint: the rows show only one of them.
    only_yes = write(tmp_path / "yes.csv", pairs(8, names=("yes", "no"))[::2])
    again = tmp_path / "again"
    files = {"validation_file": only_yes, "test_file": only_yes}
    results = run(again, "do_eval", "do_predict", model_name_or_path=output, **files)
    assert results["eval_accuracy"] == 1.0 and results["eval_samples"] == 4
    assert read_predictions(again / "predictions_test.tsv") == ["yes"] * 4


def test_mnli_has_two_validation_splits(tmp_path, pretrained):
    matched = write(tmp_path / "matched.jsonl", pairs(9, "premise", "hypothesis", MNLI))
    mismatched = write(tmp_path / "mismatched.jsonl", pairs(6, "premise", "hypothesis", names=(0, 1, 2)))
    output = tmp_path / "out"
    files = {"train_file": matched, "validation_file": matched, "validation_mismatched_file": mismatched}
    files |= {"test_file": matched, "test_mismatched_file": mismatched}
    options = {"task_name": "mnli", "model_name_or_path": pretrained, "max_steps": 2}
    results = run(output, "do_train", "do_eval", "do_predict", **files, **options)
    saved = read_json(output / "eval_results.json")
    assert saved["eval_samples"] == 9 and saved["eval_mm_samples"] == 6
    assert results["eval_mm_accuracy"] == saved["eval_mm_accuracy"]
    assert len(read_predictions(output / "predictions_test_matched.tsv")) == 9
    assert set(read_predictions(output / "predictions_test_mismatched.tsv")) <= set(MNLI)
    assert results["test_mm_accuracy"] == results["eval_mm_accuracy"]
    card = ModelCard.load(output / "README.md")
    assert "the validation_matched and validation_mismatched splits of mnli" in card.text
    measured = {(one.dataset_split, one.metric_type, one.metric_name) for one in card.data.eval_results}
    assert measured == {
        ("validation_matched", "accuracy", "Accuracy"),
        ("validation_mismatched", "accuracy", "Mismatched accuracy"),
    }


def test_evaluation_alone_needs_no_training_rows(tmp_path, pretrained, capsys):
    data = write(tmp_path / "dev.jsonl", pairs(10, "question", "sentence"))
    options = {"task_name": "qnli", "validation_file": data, "model_name_or_path": pretrained}
    results = run(tmp_path / "out", "do_eval", max_eval_samples=6, **options)
    assert results["eval_samples"] == 6 and 0 <= results["eval_accuracy"] <= 1
    assert "classifier has random weights" in capsys.readouterr().out
    assert not (tmp_path / "out" / "README.md").exists()


@pytest.mark.parametrize("names", [("positive", "negative"), ("LABEL_0", "LABEL_1")])
def test_classes_are_matched_by_name_and_without_names_by_number(tmp_path, classifier, monkeypatch, names):
    checkpoint = damaged(classifier, tmp_path / "classifier", config=named(names))
    warnings = []
    monkeypatch.setattr("modeling_gau.glue.labels.logger.warning", warnings.append)
    rows = [row | {"label": int(number < 3)} for number, row in enumerate(sentiment(10))]
    data = write(tmp_path / "dev.jsonl", rows)
    options = {"task_name": "sst2", "validation_file": data, "test_file": data, "model_name_or_path": checkpoint}
    results = run(tmp_path / "out", "do_eval", "do_predict", **options)
    answers = pipeline("text-classification", model=str(checkpoint))([row["sentence"] for row in rows])
    meant = {"LABEL_0": "negative", "LABEL_1": "positive"}
    expected = [meant.get(answer["label"], answer["label"]) for answer in answers]
    assert read_predictions(tmp_path / "out" / "predictions_test.tsv") == expected
    right = [name == ("negative", "positive")[row["label"]] for name, row in zip(expected, rows, strict=True)]
    assert results["eval_accuracy"] == sum(right) / 10
    assert len(warnings) == (names[0] == "LABEL_0")
    assert all("LABEL_0, LABEL_1, so labels are matched by number: 0 is negative" in text for text in warnings)


def test_pretrained_weights_are_the_start_and_trained_in_float32(tmp_path, save_model, sst2):
    half = save_model(dtype=torch.bfloat16)
    run(tmp_path / "out", "do_train", max_steps=1, **sst2 | {"model_name_or_path": half, "learning_rate": 0})
    before = GAUForMaskedLM.from_pretrained(half).model.float().state_dict()
    after = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert after.config.dtype == torch.float32
    assert same_weights(before, after.model.state_dict())


@pytest.mark.parametrize(
    "flags, options, fixed_n",
    [((), {}, 16), ((), {"fixed_n": 64}, 64), (("dynamic_n",), {}, None)],
    ids=["kept", "fixed", "dynamic"],
)
def test_n_of_the_checkpoint_may_be_replaced(tmp_path, sst2, flags, options, fixed_n):
    results = run(tmp_path / "out", *flags, max_steps=1, **sst2, **options)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.fixed_n == fixed_n
    # The loss that was reported is the loss with that n, and n matters.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    rows = tokenizer([row["sentence"] for row in sentiment(8)], return_tensors="pt")
    losses = {}
    for n in (16, 64, None):
        model.config.fixed_n = n
        losses[n] = model(**rows, labels=torch.tensor([row["label"] for row in sentiment(8)])).loss.item()
    assert results["eval_loss"] == pytest.approx(losses.pop(fixed_n), abs=1e-6)
    assert all(abs(results["eval_loss"] - loss) > 1e-5 for loss in losses.values())


def test_recipe_and_random_weights(tmp_path, pretrained):
    data = write(tmp_path / "rows.csv", sentiment(8))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"task_name: cola\ntrain_file: {data}\nvalidation_file: {data}\nlearning_rate: 1e-3\nmax_steps: 1\n"
        f"config_name: {pretrained}\noutput_dir: {tmp_path / 'out'}\nuse_cpu: true\nsave_strategy: no\n",
        encoding="utf-8",
    )
    results = run_glue.main(["--config", str(recipe), "--tokenizer_name", pretrained, "--max_steps", "2"])
    assert "eval_matthews_correlation" in results
    assert read_json(tmp_path / "out" / "trainer_state.json")["global_step"] == 2
    assert AutoConfig.from_pretrained(tmp_path / "out").id2label == {0: "unacceptable", 1: "acceptable"}


def test_a_run_is_resumed(tmp_path, sst2):
    data = write(tmp_path / "rows.jsonl", sentiment(32))
    options = sst2 | {"train_file": data, "learning_rate": 1e-3}
    options |= {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    results = run(whole, "do_train", **options)
    with pytest.raises(ValueError, match="holds an earlier run"):
        run(whole, "do_train", **options)
    at_its_end = run(whole, "do_train", **options, resume_from_checkpoint="last")
    assert at_its_end["train_loss"] == results["train_loss"] > 0
    assert at_its_end["train_runtime"] > 0.1 * results["train_runtime"]
    shutil.copytree(whole / "checkpoint-2", parts / "checkpoint-2")
    run(parts, "do_train", resume_from_checkpoint=parts / "checkpoint-2", **options)
    assert same_weights(*(load_file(path / "model.safetensors") for path in (whole, parts)))
    write(tmp_path / "rows.jsonl", sentiment(32)[::-1])
    with pytest.raises(ValueError, match="checkpoint-2 was trained with other files: contents of train"):
        run(parts, "do_train", resume_from_checkpoint=parts / "checkpoint-2", **options)


@pytest.mark.parametrize("place", ["out", "out/sst2/seed-1"])
def test_a_folder_has_one_run_or_study(tmp_path, sst2, place):
    for split in ("train", "validation"):
        write(tmp_path / "data" / "sst2" / f"{split}.jsonl", sentiment(8))
    study = {"task_name": "sst2", "seeds": [1, 2], "data_dir": tmp_path / "data", "max_steps": 1}
    study["model_name_or_path"] = sst2["model_name_or_path"]
    refused = pytest.raises(ValueError, match=f"at work in .*{place}: process {os.getpid()} on ")
    with lock(tmp_path / place):
        with refused:
            run(tmp_path / "out", "do_train", "overwrite_output_dir", **study)
        with refused:
            run(tmp_path / place, "do_train", **sst2)


@pytest.mark.parametrize("task_name, names", [("mrpc", (0, 1)), ("stsb", (0.5, 4.5))])
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, pretrained, task_name, names):
    data = write(tmp_path / "rows.jsonl", pairs(8, names=names))
    options = {"task_name": task_name, "train_file": data, "model_name_or_path": pretrained, "max_steps": 1}
    options |= {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0}
    losses, weights = [], []
    for rows, steps in ((8, 1), (2, 4)):
        output = tmp_path / f"steps{steps}"
        batches = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
        losses.append(run(output, "do_train", **batches, **options)["train_loss"])
        weights.append(AutoModelForSequenceClassification.from_pretrained(output).classifier.weight)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_any_encoder_can_be_fine_tuned_but_has_no_n(tmp_path, pretrained, bert):
    data = write(tmp_path / "rows.jsonl", pairs(8))
    options = {"task_name": "mrpc", "train_file": data, "validation_file": data, "tokenizer_name": pretrained}
    options |= {"model_name_or_path": bert, "max_steps": 1}
    with pytest.raises(ValueError, match="--fixed_n is an option of GAU models; BertConfig has no such field"):
        run(tmp_path / "out", fixed_n=8, **options)
    with pytest.raises(ValueError, match="--dynamic_n is an option of GAU models; BertConfig has no n"):
        run(tmp_path / "out", "dynamic_n", **options)
    with pytest.raises(ValueError, match="--attention_normalization is an option of GAU models"):
        run(tmp_path / "out", attention_normalization="softmax", **options)
    misfit = damaged(bert, tmp_path / "misfit", config={"intermediate_size": 32})
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.0\.\S+\.dense\.bias \(\(16,\) there, \(32,\) here"):
        run(tmp_path / "out", **options | {"model_name_or_path": misfit})
    assert not (tmp_path / "out").exists()
    results = run(tmp_path / "out", **options)
    assert {"eval_accuracy", "eval_f1", "eval_combined_score"} <= set(results)


def test_an_empty_sentence_is_a_sentence(tmp_path, pretrained):
    rows = [{"sentence": "", "label": 0}, *sentiment(5)]
    files = {
        "train_file": write(tmp_path / "train.jsonl", rows),
        "validation_file": write(tmp_path / "dev.csv", rows),
        "test_file": write(tmp_path / "test.jsonl", rows[:1]),
    }
    flags = ("do_train", "do_eval", "do_predict")
    options = {"task_name": "sst2", "model_name_or_path": pretrained, "max_steps": 1}
    results = run(tmp_path / "out", *flags, per_device_eval_batch_size=1, **files, **options)
    assert (results["train_samples"], results["eval_samples"], results["test_samples"]) == (6, 6, 1)
    assert all(math.isfinite(results[name]) for name in ("train_loss", "eval_loss", "test_loss"))


def test_names_of_classes_are_no_markup_of_the_card(tmp_path, pretrained):
    names = ["<script>alert(1)</script>", "two\nlines", "---", "# heading", "a | b", "`code`"]
    data = write(tmp_path / "a`b.csv", [{"sentence": "good film", "label": name} for name in names])
    options = {"train_file": data, "model_name_or_path": pretrained, "max_steps": 1}
    run(tmp_path / "out", "do_train", run_name="a <b>", **options)
    assert set(AutoConfig.from_pretrained(tmp_path / "out").id2label.values()) == set(names)
    body = ModelCard.load(tmp_path / "out" / "README.md").text
    assert "\n# a &lt;b&gt;\n" in body and "the local file ``a`b.csv`` (classes: " in body
    assert r"\# heading, \-\-\-, &lt;script&gt;alert(1)&lt;/script&gt;, \`code\`, a \| b, two lines)" in body
    assert "<script" not in body and "\n---" not in body


def test_dropping_the_last_batch_of_training_drops_no_row_of_evaluations(tmp_path, sst2):
    flags = ("do_train", "do_eval", "do_predict", "dataloader_drop_last")
    options = sst2 | {"test_file": sst2["train_file"], "learning_rate": 0, "max_steps": 1}
    results = run(tmp_path / "some", *flags, per_device_eval_batch_size=5, **options)
    whole = run(tmp_path / "all", *flags, per_device_eval_batch_size=8, **options)
    assert results["eval_loss"] == pytest.approx(whole["eval_loss"])
    assert len(read_predictions(tmp_path / "some" / "predictions_test.tsv")) == 8


def damaged(source: str | Path, path: Path, config: dict | None = None, without: str | None = None) -> Path:
    """A copy of a checkpoint with other fields in its config.json, or without the tensors of a prefix."""
    shutil.copytree(source, path)
    fields = read_json(path / "config.json") | (config or {})
    (path / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    weights = load_file(path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if without is None or not name.startswith(without)}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.mark.parametrize("flags", [(), ("ignore_mismatched_sizes",)], ids=["", "ignore_mismatched_sizes"])
@pytest.mark.parametrize(
    "damage, message",
    [
        ({"config": {"attention_key_size": 8}}, r"model\.layers\.0.*\(\(.*, 32\) there, \(.*, 32\) here\)"),
        ({"without": "model.layers.1"}, r"model\.layers\.1\S+ \(missing\)"),
    ],
    ids=["shapes", "missing"],
)
def test_an_encoder_that_does_not_fit_is_refused(tmp_path, sst2, flags, damage, message):
    misfit = damaged(sst2["model_name_or_path"], tmp_path / "misfit", **damage)
    with pytest.raises(ValueError, match=rf"checkpoint {misfit} do not fit.*{message}.*its own config\.json"):
        run(tmp_path / "out", "do_train", *flags, **sst2 | {"model_name_or_path": misfit})
    assert not (tmp_path / "out").exists()


def test_a_classifier_is_replaced_on_request_alone(tmp_path, classifier):
    data = write(tmp_path / "rows.jsonl", [row | {"label": number % 3} for number, row in enumerate(sentiment(6))])
    headless = damaged(classifier, tmp_path / "headless", without="classifier.")
    options = {"train_file": data, "max_steps": 1, "learning_rate": 0}
    for checkpoint in (classifier, headless):
        with pytest.raises(ValueError, match="Add --ignore_mismatched_sizes to start a new classifier"):
            run(tmp_path / "out", "do_train", model_name_or_path=checkpoint, **options)
    two = write(tmp_path / "two.jsonl", sentiment(6))
    with pytest.raises(ValueError, match=r"classifier\.\S+ \(missing\).*Add --ignore_mismatched_sizes"):
        run(tmp_path / "out", "do_eval", model_name_or_path=headless, task_name="sst2", validation_file=two)
    run(tmp_path / "out", "do_train", "ignore_mismatched_sizes", model_name_or_path=classifier, **options)
    before, after = (GAUForSequenceClassification.from_pretrained(path) for path in (classifier, tmp_path / "out"))
    assert after.classifier.weight.shape[0] == 3
    assert same_weights(before.model.state_dict(), after.model.state_dict())


def test_an_attention_that_the_checkpoint_cannot_use_may_fit_what_it_is_changed_to(tmp_path, sst2):
    with pytest.raises(ValueError, match="'sdpa' cannot compute attention_normalization='squared_relu'"):
        run(tmp_path / "out", "do_train", attn_implementation="sdpa", **sst2 | {"train_file": "nowhere.csv"})
    overrides = {"attention_normalization": "softmax_plus", "attn_implementation": "sdpa"}
    assert run(tmp_path / "out", "do_train", max_steps=1, **overrides, **sst2)["train_samples"] == 8


@pytest.mark.parametrize(
    "options", [{"task_name": "stsb"}, {"problem_type": "regression"}, {"label_column": ["good", "new"]}]
)
def test_label_smoothing_of_scores_is_refused_before_data_is_read(tmp_path, pretrained, options):
    with pytest.raises(ValueError, match=r"--label_smoothing_factor 0.1 needs one class a row.*Leave it out"):
        run(tmp_path / "out", train_file="nowhere.csv", model_name_or_path=pretrained, **options, **SMOOTH)


def test_slow_steps_are_told(tmp_path, sst2, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "_WORTH_A_WORD", 0)
    monkeypatch.setattr(progress, "measure_matmul_peak", lambda *_: 1e30)
    monkeypatch.setattr(progress, "slowdown_by_threads", lambda: 9.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(progress.logger, "warning", said.append)
    run(tmp_path / "out", "do_train", **sst2 | {"max_steps": 20})
    (line,) = said
    assert line.startswith("Steps are slow: 8 threads take 9 times as long as one. ") and "OMP_NUM_THREADS=1" in line


def test_label_smoothing_of_classes(tmp_path, sst2):
    assert math.isfinite(run(tmp_path / "out", "do_train", max_steps=1, **sst2, **SMOOTH)["train_loss"])


SMOOTH = {"label_smoothing_factor": 0.1}


@pytest.mark.parametrize(
    "flags, options, rows, message",
    [
        ((), {"task_name": "sst2"}, [{"sentence": "a", "label": -1}], r"line 1 \(Split train, row 0 .*label is -1"),
        ((), {"task_name": "rte"}, None, "Split train has no column sentence1"),
        ((), {"task_name": "sst2", "metric_for_best_model": "f1"}, None, "report loss, accuracy"),
        (("dynamic_n",), {"fixed_n": 8}, None, "--fixed_n 8 and --dynamic_n exclude each other"),
        (("do_eval",), {"task_name": "sst2"}, None, "--do_eval needs the split validation"),
        ((), {}, [{"text": "a", "label": 0}], "the data has text, label"),
        ((), {"task_name": "sst2", "mnli_checkpoint": "m"}, None, "takes the path of a model, and only for rte, mrpc"),
        ((), {"data_dir": "."}, None, "--data_dir needs --task_name"),
        (("dataloader_drop_last",), {"max_steps": 5}, None, "nothing of the 4 training rows: .* need 8"),
        ((), {"text_column": "label"}, None, "'label' is given as text and as label"),
        ((), {"max_steps": 0}, None, "--max_steps must be from 1"),
        (
            (),
            SMOOTH,
            [{"sentence": "a", "label": score} for score in (0.5, 1.0)],
            "this is regression",
        ),
        ((), SMOOTH, [{"sentence": "a", "label": ["b"]}, {"sentence": "a", "label": ["c"]}], "this is multi_label"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, pretrained, flags, options, rows, message):
    data = write(tmp_path / "rows.jsonl", rows or sentiment(4))
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "do_train", *flags, train_file=data, model_name_or_path=pretrained, **options)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_does_not_fit(tmp_path, sst2, make_tokenizer):
    make_tokenizer("abcdefghijkl").save_pretrained(tmp_path / "large")
    with pytest.raises(ValueError, match=r"has 17 tokens, but the checkpoint .* embeds 15"):
        run(tmp_path / "out", tokenizer_name=tmp_path / "large", **sst2)
    with pytest.raises(ValueError, match="Give --tokenizer_name"):
        run(tmp_path / "out", train_file=sst2["train_file"], config_name="gau-tiny")


# Several runs


@pytest.fixture
def two_tasks(tmp_path) -> str:
    for name, rows in (("sst2", sentiment), ("mrpc", pairs)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for split, count in (("train", 24), ("validation", 12), ("test", 6)):
            write(folder / f"{split}.jsonl", rows(count))
    return str(tmp_path / "data")


def test_tasks_and_seeds_from_one_call(tmp_path, two_tasks, pretrained, capsys):
    output = tmp_path / "out"
    options = {"task_name": "mrpc,sst2", "data_dir": two_tasks, "model_name_or_path": pretrained, "seeds": [0, 1]}
    options |= {"learning_rate": 3e-3, "num_train_epochs": 2, "license": "mit", "language": "en"}
    results = run(output, **options)
    summary = read_json(output / "glue_results.json")
    for task, metric in (("mrpc", "f1"), ("sst2", "accuracy")):
        records = [read_json(output / task / f"seed-{seed}" / "run.json") for seed in (0, 1)]
        values = [record["results"][f"eval_{metric}"] for record in records]
        assert summary["tasks"][task]["metrics"][metric]["values"] == values
        assert results[f"{task}_eval_{metric}"] == pytest.approx(sum(values) / 2)
    # The models of two seeds are two models.
    first, second = (load_file(output / "mrpc" / f"seed-{seed}" / "model.safetensors") for seed in (0, 1))
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])
    # By default test rows are predicted too, where there are any.
    lines = (output / "submission" / "SST-2.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == 7 and {line[2:] for line in lines[1:]} <= {"0", "1"}
    assert (output / "submission.zip").is_file()
    printed = capsys.readouterr().out
    assert "SST-2.tsv has 6 rows, the official test set 1,821" in printed and "lacks CoLA.tsv" in printed
    card = (output / "mrpc" / "seed-1" / "README.md").read_text(encoding="utf-8")
    assert "| Metric | This model | Mean | Standard deviation | Seed 0 | Seed 1 |" in card
    assert "license: mit" in card and "- en" in card and "# mrpc-seed-1" in card

    stamp = (output / "mrpc" / "seed-0" / "model.safetensors").stat().st_mtime_ns
    assert run(output, **options) == results
    assert (output / "mrpc" / "seed-0" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match=r"learning_rate \(0.003 there, 0.001 here\)"):
        run(output, **options | {"learning_rate": 1e-3})


def test_a_run_of_several_goes_on_from_its_checkpoint(tmp_path, two_tasks, pretrained, monkeypatch):
    options = {"task_name": "sst2", "data_dir": two_tasks, "model_name_or_path": pretrained, "learning_rate": 1e-3}
    options |= {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "seeds": [5]}

    def study(output: Path) -> dict[str, torch.Tensor]:
        run(output, **options)
        return load_file(output / "sst2" / "seed-5" / "model.safetensors")

    expected = study(tmp_path / "whole")
    steps = []

    def stop_at_the_third(trainer, *args, **kwargs):
        steps.append(trainer.state.global_step)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return original(trainer, *args, **kwargs)

    original = GlueTrainer.training_step
    monkeypatch.setattr(GlueTrainer, "training_step", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "parts")
    assert same_weights(expected, study(tmp_path / "parts"))
    assert steps == [0, 1, 2, 2, 3]
    assert not list((tmp_path / "parts").rglob("checkpoint-*"))


def test_two_processes_do_what_one_does(tmp_path, two_tasks, pretrained, in_two_processes):
    options = {"task_name": "mrpc,sst2", "data_dir": two_tasks, "model_name_or_path": pretrained, "seeds": [0]}
    options |= {"learning_rate": 3e-3, "num_train_epochs": 2}
    options["logging_steps"] = 1  # losses that were not logged are those of the first process in the Trainer's mean
    # All rows in a step: the order of rows differs with the number of processes.
    run(tmp_path / "one", per_device_train_batch_size=24, **options)
    for again in (False, True):
        two = lambda _: run(tmp_path / "two", per_device_train_batch_size=12, **options)  # noqa: E731
        printed = in_two_processes(two, [])
        assert printed.count("mean of 2 tasks, not the GLUE average") == 1
        assert printed.count("finished already") == (2 if again else 0)
    one, two = (read_json(tmp_path / name / "glue_results.json")["tasks"] for name in ("one", "two"))
    for task in ("mrpc", "sst2"):
        assert two[task]["score"]["values"] == pytest.approx(one[task]["score"]["values"])
        runs = [tmp_path / name / task / "seed-0" for name in ("one", "two")]
        records = [read_json(path / "run.json") for path in runs]
        assert [record["world_size"] for record in records] == [1, 2]
        losses = [record["results"]["train_loss"] for record in records]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        predictions = [read_predictions(path / "predictions_test.tsv") for path in runs]
        assert predictions[0] == predictions[1]


def test_a_task_begins_with_the_model_of_mnli(tmp_path, save_model, two_tasks):
    mnli = save_model(GAUForSequenceClassification, seed=1, **named(MNLI))
    options = {"task_name": "mrpc", "data_dir": two_tasks, "mnli_checkpoint": mnli}
    run(tmp_path / "out", "do_train", max_steps=1, learning_rate=0, **options)
    before, after = (GAUForSequenceClassification.from_pretrained(path) for path in (mnli, tmp_path / "out"))
    assert after.config.id2label == {0: "not_equivalent", 1: "equivalent"}
    assert same_weights(before.model.state_dict(), after.model.state_dict())


def test_training_stops_when_nothing_is_gained_also_over_a_resumption(tmp_path, sst2):
    data = write(tmp_path / "rows.jsonl", sentiment(16))
    options = sst2 | {"train_file": data, "learning_rate": 0, "num_train_epochs": 9, "early_stopping_patience": 2}
    whole = tmp_path / "whole"
    run(whole, **options, save_strategy="epoch", save_total_limit=9)
    state = read_json(whole / "trainer_state.json")
    assert state["epoch"] == 3.0 and state["best_global_step"] == 2  # the first evaluation, and two without gain
    for checkpoint in ("checkpoint-4", "checkpoint-6"):  # amid, and of the last step
        parts = tmp_path / checkpoint
        shutil.copytree(whole / checkpoint, parts / checkpoint)
        run(parts, **options, save_strategy="epoch", resume_from_checkpoint="last")
        assert read_json(parts / "trainer_state.json")["epoch"] == 3.0


def test_another_model_is_not_evaluated_into_a_trained_one(tmp_path, sst2, classifier):
    run(tmp_path / "out", "do_train", max_steps=1, **sst2)
    before = (tmp_path / "out" / "run.json").read_text()
    with pytest.raises(ValueError, match="holds a trained model with its results"):
        run(tmp_path / "out", "do_eval", **sst2 | {"model_name_or_path": classifier})
    assert (tmp_path / "out" / "run.json").read_text() == before
    results = run(tmp_path / "out", "do_eval", **sst2 | {"model_name_or_path": tmp_path / "out"})
    record = read_json(tmp_path / "out" / "run.json")
    assert record["trained"] and record["evaluated"] and record["results"]["eval_loss"] == results["eval_loss"]


# Labels


def tags(count: int) -> list[dict]:
    """Two words, of which each has a tag of its own or none."""
    return [
        {
            "text": f"{'good' if row % 2 else 'bad'} {'film' if row % 3 else 'book'}",
            "tags": [name for name, applies in (("nice", row % 2), ("movie", row % 3)) if applies],
        }
        for row in range(count)
    ]


def test_minus_one_and_one_are_classes(tmp_path, pretrained):
    rows = [row | {"label": 2 * row["label"] - 1} for row in sentiment(48)]
    data = write(tmp_path / "rows.csv", rows)
    options = {"validation_file": data, "test_file": data, "learning_rate": 1e-2, "num_train_epochs": 8}
    flags = ("do_train", "do_eval", "do_predict")
    results = run(tmp_path / "out", *flags, train_file=data, model_name_or_path=pretrained, **options)
    assert results["eval_accuracy"] == 1.0
    assert set(read_predictions(tmp_path / "out" / "predictions_test.tsv")) == {"-1", "1"}
    assert set(AutoConfig.from_pretrained(tmp_path / "out").id2label.values()) == {"-1", "1"}
    one = write(tmp_path / "one.csv", [row for row in rows if row["label"] == 1])
    again = run(tmp_path / "again", "do_eval", validation_file=one, model_name_or_path=tmp_path / "out")
    assert again["eval_accuracy"] == 1.0


@pytest.mark.parametrize("form", ["lists", "columns"])
def test_several_labels_a_row(tmp_path, pretrained, form):
    rows, output = tags(48), tmp_path / "out"
    if form == "lists":
        data, label = write(tmp_path / "rows.jsonl", rows), "tags"
    else:
        label = ["nice", "movie"]
        columns = [{"text": row["text"]} | {name: int(name in row["tags"]) for name in label} for row in rows]
        data = write(tmp_path / "rows.csv", columns)
    options = {"text_column": "text", "label_column": label, "validation_file": data, "test_file": data}
    learning = {"train_file": data, "learning_rate": 1e-2, "num_train_epochs": 8, "model_name_or_path": pretrained}
    results = run(output, "do_train", "do_eval", "do_predict", **options, **learning)
    assert results["eval_f1_micro"] == results["eval_accuracy"] == 1.0
    config = AutoConfig.from_pretrained(output)
    assert config.problem_type == "multi_label_classification" and set(config.id2label.values()) == {"nice", "movie"}
    predicted = [set(filter(None, cell.split(","))) for cell in read_predictions(output / "predictions_test.tsv")]
    assert predicted == [set(row["tags"]) for row in rows]
    for row in read_rows(output / "predictions_validation.tsv"):
        assert row["label"] == row["prediction"] and row["label"].count(",") == row["probability"].count(",")
    (scores,) = pipeline("text-classification", model=str(output), top_k=None)(["good book"])
    assert {one["label"]: one["score"] > 0.5 for one in scores} == {"nice": True, "movie": False}

    again = run(tmp_path / "again", "do_eval", "do_predict", model_name_or_path=output, **options)
    assert again["eval_f1_micro"] == 1.0


def test_a_study_may_start_from_a_model_of_mnli_alone(tmp_path, two_tasks, pretrained, capsys):
    options = {"task_name": "mrpc", "data_dir": two_tasks, "mnli_checkpoint": pretrained, "seeds": [0], "max_steps": 1}
    results = run(tmp_path / "out", "do_train", "do_eval", **options)
    assert "accuracy" in str(results)
    assert capsys.readouterr().out.count("chosen for a width") == 1
