# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The scripts in examples/: the commands and the Python code of docs/fine_tuning_heads.md, run on tiny data."""

import contextlib
import csv
import functools
import importlib.util
import io
import json
import math
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertTokenizer,
    EvalPrediction,
    pipeline,
)

from modeling_gau import GAUError
from modeling_gau.text.tokenization import train_tokenizer


ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "fine_tuning_heads.md").read_text(encoding="utf-8")
PEOPLE = ["Ada Lovelace", "Emmy Noether", "Grace", "Alan Turing"]
PLACES = ["London", "New York", "Paris", "Rome"]
VOCABULARY = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] . ? a the who where did ada love ##lace em ##my noe ##ther grace alan tur ##ing "
    "lon ##don new york par ##is rome in live lived film book to remember forget one is man plays someone play dog "
    "cat hound kit ##ten runs sleeps over there today"
).split()
QUICK = ["--use_cpu", "--disable_tqdm", "true", "--save_strategy", "no"]


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scripts() -> Callable[[str], ModuleType]:
    """Loads a script of examples/, once."""
    return functools.cache(load_script)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, make_model) -> Path:
    path = tmp_path_factory.mktemp("pretrained")
    widths = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 64, "attention_key_size": 16}
    make_model(num_hidden_layers=2, initializer_range=None, **widths).save_pretrained(path)
    BertTokenizer(vocab={word: index for index, word in enumerate(VOCABULARY)}).save_pretrained(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, pretrained) -> Path:
    """The working directory of a test, with the checkpoint where the guide's commands look for it."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    Path("outputs/pretrained").symlink_to(pretrained)
    return tmp_path


def write(name: str, rows: list[dict]) -> str:
    with open(name, "w", encoding="utf-8", newline="") as file:
        if name.endswith(".csv"):
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return name


def code_of(script: str, language: str) -> str:
    """The code block in the guide's section on a script."""
    section = re.search(rf"^## .*`{script}\.py`\n(.*?)(?=^## |\Z)", GUIDE, flags=re.MULTILINE | re.DOTALL)[1]
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return block


def run_command(script: ModuleType, *options: str) -> dict[str, float]:
    """Runs the guide's command for a script with further options."""
    name = script.__name__.removeprefix("example_")
    program, path, *argv = shlex.split(code_of(name, "bash").replace("\\\n", ""))
    assert (program, path) == ("python", f"examples/{name}.py")
    return script.main([*argv, *QUICK, *options])


def run_snippet(name: str) -> tuple[str, dict]:
    """The output and the variables of the guide's Python code."""
    output, variables = io.StringIO(), {}
    with contextlib.redirect_stdout(output):
        exec(compile(code_of(name, "python"), name, "exec"), variables)
    return output.getvalue(), variables


# Words


def sentences(count: int) -> list[dict]:
    rows = []
    for row in range(count):
        person, place = PEOPLE[row % 4].split(), PLACES[row // 4 % 4].split()
        labels = ["B-PER", *["I-PER"] * (len(person) - 1), "O", "O", "B-LOC", *["I-LOC"] * (len(place) - 1)]
        rows.append({"tokens": [*person, "lived", "in", *place], "labels": labels})
    return rows


def test_token_classification(folder, scripts, capsys):
    write("train.jsonl", sentences(16))
    write("validation.jsonl", sentences(8))
    results = run_command(scripts("token_classification"), "--learning_rate", "5e-3", "--num_train_epochs", "30")
    names = ("f1", "f1_PER", "f1_LOC", "precision", "recall", "accuracy")
    assert {name: results[f"eval_{name}"] for name in names} == dict.fromkeys(names, 1.0)
    assert (results["eval_words"], results["eval_words_cut_off"]) == (42, 0)
    assert json.loads(Path("outputs/entities/eval_results.json").read_text()) == results
    printed = capsys.readouterr().out
    assert re.search(r"eval_f1 +=", printed) and "A new head with random weights on the encoder of " in printed

    model = AutoModelForTokenClassification.from_pretrained("outputs/entities")
    assert model.config.id2label == dict(enumerate(["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]))
    lines = [line.rsplit(" ", 1)[0] for line in run_snippet("token_classification")[0].splitlines()]
    assert lines == ["PER ada lovelace", "LOC london"]
    tag = pipeline("token-classification", model="outputs/entities", aggregation_strategy="simple")
    assert [entity["entity_group"] for entity in tag("Grace lived in Rome")] == ["PER", "LOC"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_labels_stand_at_the_first_token_of_a_word(kind, scripts):
    """Tokens are those of the joined text: a byte-level tokenizer splits a single word differently."""
    texts = Dataset.from_dict({"text": ["low lower lowest new newer newest"] * 20})
    tokenizer = train_tokenizer(texts, kind, 300, lowercase=False)
    words, names = ["newest", "low", "lowest", "xyzzy"], ["a", "b", "c", "d"]
    script = scripts("token_classification")
    batch = {"tokens": [words, []], "labels": [names, []]}
    inputs = script.encode_batch(batch, tokenizer, names, max_length=64)
    assert inputs["input_ids"] == tokenizer([" ".join(words), ""]).input_ids
    tokens = zip(inputs["input_ids"][0], inputs["labels"][0], strict=True)
    labelled = [(tokenizer.decode(token).strip(), names[label]) for token, label in tokens if label != -100]
    assert [name for _, name in labelled] == names
    for (piece, _), word in zip(labelled, words, strict=True):
        assert piece == "[UNK]" or word.startswith(piece)
    cut = script.encode_batch(batch, tokenizer, names, max_length=4)
    assert script.count_labelled(cut["labels"]) == 2 if kind == "wordpiece" else 1


def test_labels_other_than_entities_have_an_accuracy(scripts):
    evaluation = EvalPrediction(np.array([[0, 1, 1], [1, 0, 0]]), np.array([[-100, 1, 0], [1, -100, -100]]))
    scores = scripts("token_classification").entity_scores(evaluation, ["NOUN", "VERB"])
    assert scores == {"accuracy": pytest.approx(2 / 3)}


# Questions


def questions(count: int, filler: int = 0) -> list[dict]:
    rows = []
    for row in range(count):
        person, place = PEOPLE[row % 4], PLACES[row // 4 % 4]
        context = f"{'over there today . ' * (row % 3 * filler)}{person} lived in {place} .{' today .' * filler}"
        where, who = f"Where did {person.split()[0]} live ?", f"Who lived in {place} ?"
        question, answer = (where, place) if row // 16 % 2 else (who, person)
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        rows.append({"id": f"q{row}", "context": context, "question": question, "answers": answers})
    return rows


def test_question_answering(folder, scripts, capsys):
    write("train.jsonl", questions(32, filler=2))
    # Longer texts than those of training, and than a window.
    write("validation.jsonl", questions(32, filler=4)[8:24])
    windows = ["--max_seq_length", "24", "--doc_stride", "8", "--max_answer_length", "4", "--n_best_size", "3"]
    results = run_command(
        scripts("question_answering"), *windows, "--learning_rate", "5e-3", "--num_train_epochs", "20"
    )
    assert results["eval_exact_match"] > 90 and results["eval_f1"] > 90
    found = json.loads(Path("outputs/answers/nbest_predictions.json").read_text(encoding="utf-8"))
    assert list(found) == [f"q{row}" for row in range(8, 24)] and {len(answers) for answers in found.values()} == {3}
    rows = {row["id"]: row for row in questions(32, filler=4)[8:24]}
    for name, answers in found.items():
        for answer in answers:
            assert rows[name]["context"][answer["start"] : answer["end"]].strip() == answer["text"]
    right = [found[name][0]["text"] == row["answers"]["text"][0] for name, row in rows.items()]
    assert 100 * sum(right) / 16 == results["eval_exact_match"]
    assert run_snippet("question_answering")[0] == "London\n"


def test_answers_of_long_texts(scripts, pretrained):
    """The tokens of an answer lead back to its text, in every window that contains all of it."""
    script, tokenizer = scripts("question_answering"), BertTokenizer.from_pretrained(pretrained)
    example_args = script.ExampleArguments("model", "train", "validation", max_seq_length=20, doc_stride=6)
    rows = questions(12, filler=3)
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    windows = script.make_windows(batch, [*range(12)], tokenizer, example_args)
    assert max(map(len, windows["input_ids"])) == 20 and len(windows["row"]) > 24
    answered = set()
    for row, ids, offsets, start, end in zip(*(windows[name] for name in WINDOW), strict=True):
        context = [pair for pair in offsets if pair is not None]
        answer, first = rows[row]["answers"]["text"][0], rows[row]["answers"]["answer_start"][0]
        if context[0][0] <= first and first + len(answer) <= context[-1][1]:
            assert rows[row]["context"][offsets[start][0] : offsets[end][1]] == answer
            answered.add(row)
        else:
            assert (start, end) == (0, 0) and ids[0] == tokenizer.cls_token_id
    assert answered == set(range(12))


WINDOW = ("row", "input_ids", "offsets", "start_positions", "end_positions")


def test_white_space_around_an_answer_is_ignored(scripts):
    offsets = [None, (0, 3), (4, 9), None]  # of "Ada lived "
    assert scripts("question_answering").find_span(offsets, {"text": [" lived "], "answer_start": [3]}) == (2, 2)


def test_best_answers(scripts):
    """The best valid spans over all windows, or "no answer" if it scores higher."""
    script = scripts("question_answering")
    rows = Dataset.from_dict({"context": ["ab cd ef", ""], "answers": [{"text": ["cd"]}, {"text": []}]})
    offsets = [None, None, [0, 2], [3, 5], [6, 8]]
    windows = Dataset.from_dict({"row": [0, 0, 1], "offsets": [offsets, offsets, [None] * 5]})
    # The Trainer pads the last column.
    start = np.array([[2.0, 9, 1, 4, 0, -100], [1.0, 9, 0, 0, 3, -100], [0.0, 9, 0, 0, 0, -100]])
    end = np.array([[1.0, 9, 5, 0, 3, -100], [1.0, 9, 0, 0, 4, -100], [0.0, 9, 0, 0, 0, -100]])

    def find(**options: object) -> list[list[tuple[str, float]]]:
        example_args = script.ExampleArguments("model", "train", "validation", **options)
        found = script.find_answers(rows, windows, (start, end), example_args)
        return [[(answer["text"], answer["score"]) for answer in answers] for answers in found]

    assert find(n_best_size=3)[0] == [("cd ef", 7.0), ("ef", 7.0), ("ab", 6.0)]
    assert find(max_answer_length=1)[0] == [("ef", 7.0), ("ab", 6.0), ("cd", 4.0)]
    assert find()[1] == [("", 0.0)]
    negative = find(version_2_with_negative=True, null_score_diff_threshold=-5.5)
    assert negative[0][0] == ("", 7.5)
    assert find(version_2_with_negative=True)[0][0] == ("cd ef", 7.0)


@pytest.mark.parametrize(
    ("answers", "prediction", "exact_match", "f1"),
    [
        (["the Tower of London"], "Tower of London!", 100, 100),
        (["Paris", "in Paris, France"], "Paris France", 0, 80),
        (["Paris"], "Rome", 0, 0),
        ([], "", 100, 100),
        ([], "Rome", 0, 0),
        (["Rome"], "", 0, 0),
    ],
)
def test_squad_scores(scripts, answers, prediction, exact_match, f1):
    rows = Dataset.from_dict({"answers": [{"text": answers}]})
    scores = scripts("question_answering").squad_scores(rows, [prediction])
    assert scores == pytest.approx({"exact_match": exact_match, "f1": f1})


def test_questions_without_answers(folder, scripts):
    rows = questions(32)
    for row in rows[::3]:  # asks about somebody else
        row["question"], row["answers"] = "Who did love ?", {"text": [], "answer_start": []}
    write("train.jsonl", rows)
    write("validation.jsonl", rows)
    options = ["--version_2_with_negative", "--learning_rate", "5e-3", "--num_train_epochs", "30"]
    assert run_command(scripts("question_answering"), *options)["eval_exact_match"] > 90
    found = json.loads(Path("outputs/answers/nbest_predictions.json").read_text(encoding="utf-8"))
    assert found["q0"][0]["text"] == "" and found["q1"][0]["text"] == "Emmy Noether"


# Adapters


def reviews(count: int) -> list[dict]:
    classes = [("forget", "negative"), ("remember", "positive")] * count
    return [
        {"sentence": f"a {['film', 'book'][row // 2 % 2]} to {verb}", "label": label}
        for row, (verb, label) in enumerate(classes[:count])
    ]


def test_lora(folder, scripts, capsys):
    write("train.csv", reviews(16))
    write("validation.csv", reviews(7))
    results = run_command(scripts("lora"), "--learning_rate", "1e-2", "--num_train_epochs", "15")
    assert results["eval_accuracy"] == 1.0
    assert results["eval_merged_difference"] < 1e-5
    assert json.loads(Path("outputs/lora/eval_results.json").read_text()) == results
    # Two layers, each 32 + 144 columns of i_dense and 64 + 32 of o_dense at rank 8, and a classifier of 32 * 2 + 2.
    printed = capsys.readouterr().out
    assert "trainable params: 4,418 " in printed and "A new head with random weights on the encoder of " in printed
    assert {"adapter_model.safetensors", "merged"} <= {path.name for path in Path("outputs/lora").iterdir()}
    assert not Path("outputs/lora/model.safetensors").exists()
    modes = {Path(f"outputs/lora/adapter_{name}").stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1
    assert results["eval_majority_class"] == pytest.approx(4 / 7)
    card, merged_card = (Path(f"outputs/lora/{name}README.md").read_text() for name in ("", "merged/"))
    assert "More Information Needed" not in card and "library_name: peft" in card
    assert "8 `negative`, 8 `positive`" in card and "held-out rows: 100.0%" in card and "57.1%" in card
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], {})
    assert output.getvalue() in ("negative\n", "positive\n")
    assert "Majority class" in merged_card and "Fine-tuned with LoRA of rank 8 on 16 rows" in merged_card

    printed, variables = run_snippet("lora")
    assert "'label': 'positive'" in printed
    tokenizer = BertTokenizer.from_pretrained("outputs/lora")
    inputs = tokenizer(["a book to forget", "remember a film"], padding=True, return_tensors="pt")
    merged = AutoModelForSequenceClassification.from_pretrained("outputs/lora/merged")
    with torch.no_grad():
        expected = variables["adapted"].eval()(**inputs).logits
        torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=1e-5)
        with variables["adapted"].disable_adapter():
            assert (variables["adapted"](**inputs).logits - expected).abs().max() > 0.1
    assert merged.config.label2id == {"negative": 0, "positive": 1}


# Sentences


def similar(count: int) -> tuple[list[dict], list[dict]]:
    """Pairs of paraphrases, and pairs of texts with their similarity."""
    same = [("a man plays", "someone is playing"), ("dog runs", "hound runs over there")]
    same.append(("cat sleeps", "kitten sleeps"))
    pairs = [{"anchor": first, "positive": second} for first, second in same * count]
    scored = [
        {"sentence1": first, "sentence2": second, "score": 5.0 if i == j else 0.5}
        for i, (first, _) in enumerate(same)
        for j, (_, second) in enumerate(same)
    ]
    return pairs, scored


def test_sentence_embeddings(folder, scripts, capsys, in_fork_without_package):
    pairs, scored = similar(8)
    write("pairs.jsonl", pairs)
    write("scored.jsonl", scored)
    results = run_command(scripts("sentence_embeddings"), "--learning_rate", "3e-3", "--num_train_epochs", "10")
    # A third of the pairs match: a ranking that separates them has a correlation of sqrt(27 / 40).
    assert results["after_spearman_cosine"] == pytest.approx(math.sqrt(27 / 40))
    assert results["before_spearman_cosine"] < 0.5
    assert json.loads(Path("outputs/embeddings/eval_results.json").read_text()) == results
    assert re.search(r"after_spearman_cosine += +0\.8216", capsys.readouterr().out)

    model = run_snippet("sentence_embeddings")[1]["model"]
    assert model.max_seq_length == 128
    texts = ["man", "a man plays", "a man plays in the book today there one to remember"]
    together = model.encode(texts, batch_size=3)
    for text, embedding in zip(texts, together, strict=True):
        np.testing.assert_allclose(model.encode([text])[0], embedding, rtol=1e-4, atol=1e-5)
    in_fork_without_package(embed, texts, together)


def embed(texts: list[str], expected: np.ndarray) -> None:
    from sentence_transformers import SentenceTransformer

    sys.modules["modeling_gau"] = None  # makes an import fail whichever way the package was installed
    model = SentenceTransformer("outputs/embeddings", trust_remote_code=True)
    assert type(model[0].auto_model).__module__.startswith("transformers_modules.")
    np.testing.assert_allclose(model.encode(texts), expected, rtol=1e-4, atol=1e-5)


# Errors show before training.

SENTENCE = {"tokens": ["Ada", "lived"], "labels": ["B-PER", "O"]}
QUESTION = {"id": "1", "context": "Ada lived", "question": "Who ?", "answers": {"text": ["Ada"], "answer_start": [0]}}
REVIEW = {"sentence": "a film", "label": "positive"}
PAIR = {"anchor": "a film", "positive": "a book"}
SCORED = {"sentence1": "a film", "sentence2": "a book", "score": 1.0}
GOOD = {
    "token_classification": {"train": SENTENCE, "validation": SENTENCE},
    "question_answering": {"train": QUESTION, "validation": QUESTION},
    "lora": {"train": REVIEW, "validation": REVIEW},
    "sentence_embeddings": {"train": PAIR, "validation": SCORED},
}


NO_ANSWER = {"answers": {"text": [], "answer_start": []}}


@pytest.mark.parametrize(
    ("name", "split", "changes", "message"),
    [
        ("token_classification", "train", {"tokens": "Ada"}, "train.jsonl: tokens must be lists of words"),
        ("token_classification", "validation", {"labels": [1, 0]}, "validation.jsonl: labels must be lists of words"),
        ("token_classification", "validation", {"labels": ["O"]}, "jsonl, row 1: expected one label per token"),
        ("token_classification", "validation", {"labels": ["B-LOC", "O"]}, "occur in no training row: B-LOC"),
        ("token_classification", "train", None, "train.jsonl: .*text"),
        ("question_answering", "train", {"answers": "Ada"}, "train.jsonl: expected the columns of SQuAD"),
        ("question_answering", "validation", {"context": None}, "validation.jsonl, row 1: has no context"),
        ("question_answering", "train", NO_ANSWER, "row 1: has no answer"),
        ("question_answering", "train", {"context": "Emmy"}, "does not have the answer 'Ada' at character 0"),
        ("question_answering", "train", {"question": "Who ? " * 200}, "leaves -[0-9]+ tokens for the text"),
        ("question_answering", "validation", None, "validation.jsonl: .*text"),
        ("lora", "train", {"label": None}, "train.jsonl, row 1: expected a text and a class, got 'a film' and None"),
        ("lora", "validation", {"label": "odd"}, "these labels occur in no training row: odd"),
        ("lora", "validation", None, "validation.jsonl: .*text"),
        ("sentence_embeddings", "train", {"positive": 1}, "train.jsonl, row 1: positive must be a text, got 1"),
        ("sentence_embeddings", "validation", {"score": None}, "validation.jsonl, row 1: score must be a number"),
        # The two files have columns of their own.
        ("sentence_embeddings", "train", None, "train.jsonl: .*text"),
        ("sentence_embeddings", "validation", None, "validation.jsonl: .*text"),
    ],
)
def test_wrong_rows_and_columns(folder, scripts, name, split, changes, message):
    wrong = {"text": "a film"} if changes is None else GOOD[name][split] | changes
    rows = GOOD[name] | {split: wrong}
    files = [f"--{split}_file={write(f'{split}.jsonl', [row])}" for split, row in rows.items()]
    with pytest.raises(ValueError, match=message):
        scripts(name).main(["--model_name_or_path", "outputs/pretrained", *files, *QUICK, "--output_dir", "new"])
    assert not Path("new").exists()


@pytest.mark.parametrize("name", ["token_classification", "question_answering", "lora", "sentence_embeddings"])
def test_without_files_a_script_says_what_it_needs(scripts, name):
    with pytest.raises(GAUError, match=r"Missing: --train_file, --validation_file\. --help shows an example"):
        scripts(name).main(["--model_name_or_path", "outputs/pretrained", "--use_cpu"])
    rows = re.findall(r"^ {4}(\{.*?\})$", scripts(name).__doc__, flags=re.MULTILINE | re.DOTALL)
    assert len(rows) == (2 if name == "sentence_embeddings" else 1)
    assert all(json.loads(row) for row in rows)


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("token_classification", "seqeval.metrics", "examples"),
        ("lora", "peft", "peft"),
        ("sentence_embeddings", "sentence_transformers", "sentence-transformers"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, capsys, name, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"example_{name}", None)  # restored after the test
    with pytest.raises(SystemExit):
        load_script(name)
    assert f'pip install "modeling-gau[{extra}]"' in capsys.readouterr().err
