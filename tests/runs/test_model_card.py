# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import dataclasses
import re

import pytest
from huggingface_hub import ModelCard, ModelCardData, metadata_load
from huggingface_hub.utils import validate_repo_id
from transformers import BertConfig, PreTrainedTokenizerFast
from transformers.pipelines import get_supported_tasks

from modeling_gau import GAUConfig, GAUForMaskedLM, GAUForSequenceClassification
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS
from modeling_gau.runs.model_card import (
    ModelCardFacts,
    count,
    inherited_facts,
    is_chinese,
    normalization_text,
    write_model_card,
)


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "function", "returns", "the", "of", "list", "."]

LENGTH_RESULTS = [
    {"length": 128, "loss": 3.25, "perplexity": 25.79, "accuracy": 0.4125},
    {"length": 512, "loss": 3.0, "perplexity": 20.0855, "accuracy": 0.45},
    {"length": 1024, "loss": 3.5, "perplexity": 33.1154, "accuracy": 0.39},
]


def tiny_config(**changes) -> GAUConfig:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "attention_key_size": 16, "num_hidden_layers": 2}
    return GAUConfig(vocab_size=len(VOCABULARY), **sizes | changes)


def pretraining_facts(**changes) -> ModelCardFacts:
    facts = ModelCardFacts(
        model_name="gau-tiny-example",
        task="fill-mask",
        config=tiny_config(),
        language="en",
        license="apache-2.0",
        data_description="Trained on 3 text files.",
        n_parameters=3_440_000,
        n_tokens=12_345_678,
        training={"Learning rate": 5e-4, "Steps": 1200, "Precision": "bf16 | float32 weights"},
        length_results=LENGTH_RESULTS,
        eval_dataset_name="held-out files",
        software={"transformers": "5.23.0", "torch": "2.13.0"},
        limits=["Knows only the language of manuals."],
    )
    return dataclasses.replace(facts, **changes)


def glue_facts(**changes) -> ModelCardFacts:
    facts = ModelCardFacts(
        model_name="gau-tiny-mrpc",
        task="text-classification",
        config=tiny_config(),
        language="en",
        base_model="someone/gau-tiny-example",
        datasets=["nyu-mll/glue"],
        task_metrics={"accuracy": 0.8125, "f1": 0.875},
        eval_dataset="nyu-mll/glue",
        eval_dataset_name="GLUE",
        eval_config="mrpc",
        example=("The list returns.", "The function returns the list."),
    )
    return dataclasses.replace(facts, **changes)


def write_and_load(output_dir, facts: ModelCardFacts) -> ModelCard:
    path = write_model_card(output_dir, facts)
    assert path == output_dir / "README.md"
    return ModelCard.load(path)


def sections(card: ModelCard) -> dict[str, str]:
    title, *rest = re.split(r"^## ", card.text, flags=re.MULTILINE)
    return dict([("", title)] + [section.split("\n", 1) for section in rest])


def code_of(card: ModelCard) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", card.text, flags=re.MULTILINE | re.DOTALL)
    return code


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    return make_tokenizer(VOCABULARY[5:])


def test_front_matter_of_a_pretrained_model(tmp_path):
    data = write_and_load(tmp_path, pretraining_facts(datasets=["someone/manuals"])).data
    assert (data.library_name, data.pipeline_tag, data.language) == ("transformers", "fill-mask", "en")
    assert (data.license, data.datasets, data.metrics) == (
        "apache-2.0",
        ["someone/manuals"],
        ["perplexity", "accuracy"],
    )
    assert "gau" in data.tags and data.model_name == "gau-tiny-example"
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results == {
        f"{name.capitalize()} at length {row['length']}": row[name]
        for row in LENGTH_RESULTS
        for name in ("perplexity", "accuracy")
    }
    assert {result.task_type for result in data.eval_results} == {"fill-mask"}
    assert {result.dataset_name for result in data.eval_results} == {"held-out files"}


def test_front_matter_of_a_fine_tuned_model(tmp_path):
    data = write_and_load(tmp_path, glue_facts()).data
    assert data.base_model == "someone/gau-tiny-example"
    assert [(r.metric_type, r.metric_value) for r in data.eval_results] == [("accuracy", 0.8125), ("f1", 0.875)]
    assert {(r.dataset_type, r.dataset_config, r.dataset_split) for r in data.eval_results} == {
        ("nyu-mll/glue", "mrpc", "validation")
    }


@pytest.mark.parametrize("make_facts", [pretraining_facts, glue_facts])
def test_front_matter_passes_the_checks_of_huggingface_hub(tmp_path, make_facts):
    facts = make_facts(datasets=["nyu-mll/glue"], license="apache-2.0")
    front_matter = metadata_load(write_model_card(tmp_path, facts))
    assert ModelCardData(**front_matter).to_dict() == front_matter  # the model index is read without a complaint
    assert front_matter["pipeline_tag"] in get_supported_tasks()
    for name in [*front_matter["datasets"], front_matter.get("base_model", "gau")]:
        validate_repo_id(name)


def test_what_is_unknown_is_left_out(tmp_path):
    card = write_and_load(tmp_path, ModelCardFacts(model_name="bare", task="fill-mask", config=tiny_config()))
    front_matter = card.data.to_dict()
    assert set(front_matter) == {"library_name", "pipeline_tag", "tags"}
    assert list(sections(card)) == ["", "How to use", "Limits", "Licence", "Citation"]
    assert "None" not in card.content


def test_the_licence_of_the_code_is_known_even_if_that_of_the_weights_is_not(tmp_path):
    for name, weights in (
        (None, "The weights came without a licence."),
        ("mit", "The weights have the licence `mit`."),
    ):
        text = sections(write_and_load(tmp_path, pretraining_facts(license=name)))["Licence"]
        assert "Apache-2.0" in text and weights in text
    assert "## Licence" not in write_and_load(tmp_path, glue_facts(config=BertConfig())).text


@pytest.mark.parametrize("facts", [pretraining_facts(), glue_facts()], ids=["pretrained", "fine-tuned"])
def test_no_section_is_empty(tmp_path, facts):
    card = write_and_load(tmp_path, facts)
    assert {"Training", "Results"} <= sections(card).keys()
    assert all(body.strip() for body in sections(card).values())
    assert "\n\n\n" not in card.text


def test_facts_appear_in_the_text(tmp_path):
    found = sections(write_and_load(tmp_path, pretraining_facts()))
    for section, texts in {
        "": ["3.4 million parameters"],
        "Training": [
            "Trained on 3 text files.", "| Tokens seen | 12,345,678 |",
            "| Precision | bf16 \\| float32 weights |", "transformers 5.23.0, torch 2.13.0",
        ],
        "Results": ["| 1,024 | 3.5 | 33.12 | 0.39 |"],
        "Limits": ["the table above goes up to 1024", "- Knows only the language of manuals."],
        "Citation": ["2202.10447"],
    }.items():  # fmt: skip
        assert [text for text in texts if text not in found[section]] == []


def test_local_base_model_is_named_but_not_linked(tmp_path):
    base = tmp_path / "pretrained"
    base.mkdir()
    card = write_and_load(tmp_path / "fine-tuned", glue_facts(base_model=str(base)))
    assert card.data.base_model is None
    assert "Fine-tuned from `pretrained`." in card.text
    assert str(base) not in card.text


def test_the_origin_of_a_base_model_is_carried_on(tmp_path):
    citation = "@misc{someone2022,\n  title = {Another {Model}},\n}"
    write_model_card(tmp_path / "base", pretraining_facts(origin="Converted from elsewhere.", citations=(citation,)))
    inherited = inherited_facts(tmp_path / "base")
    assert inherited["origin"].endswith("base model says of it: Converted from elsewhere.")
    assert inherited["citations"] == [citation]
    card = write_and_load(tmp_path / "tuned", glue_facts(**inherited))
    assert card.text.count("Converted from elsewhere.") == card.text.count("someone2022") == 1
    assert inherited_facts(tmp_path / "tuned") == inherited
    write_model_card(tmp_path / "own", pretraining_facts())
    assert inherited_facts(tmp_path / "own") == inherited_facts(tmp_path) == {}


def test_results_that_are_not_finite_stay_out_of_the_model_index(tmp_path):
    card = write_and_load(tmp_path, glue_facts(task_metrics={"accuracy": 0.5, "matthews_correlation": float("nan")}))
    assert [result.metric_type for result in card.data.eval_results] == ["accuracy"]
    assert "| Matthews correlation | nan |" in card.text


def test_other_model_types_are_not_described_as_gau(tmp_path):
    card = write_and_load(tmp_path, glue_facts(config=BertConfig()))
    assert card.data.tags is None
    assert "trust_remote_code" not in card.text
    assert "Citation" not in sections(card)
    assert "`bert` model" in card.text


@pytest.mark.parametrize("normalization", ATTENTION_NORMALIZATIONS)
def test_normalization_text(normalization):
    text = normalization_text(tiny_config(attention_normalization=normalization))
    assert f"`{normalization}`" in text
    assert "`fixed_n`" in text
    if not ATTENTION_NORMALIZATIONS[normalization].uses_n:
        assert "does not apply here" in text
        return
    assert "is not set" in text
    fixed = normalization_text(tiny_config(attention_normalization=normalization, fixed_n=300))
    assert "`fixed_n` is 300" in fixed


def test_softmax_plus_text_states_the_clamp():
    assert "(counted as 16 where there are fewer)" in normalization_text(tiny_config())
    assert "where there are fewer" not in normalization_text(tiny_config(softmax_plus_min_length=1))


def run_code(card: ModelCard, capsys) -> list[str]:
    exec(compile(code_of(card), "card", "exec"), {})
    return capsys.readouterr().out.splitlines()


def test_fill_mask_code_of_the_card_runs(tmp_path, tokenizer, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    GAUForMaskedLM(tiny_config()).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    guesses = run_code(write_and_load(tmp_path, pretraining_facts()), capsys)
    assert len(guesses) == 5
    assert all(re.fullmatch(r"0\.\d{3}  \S+", guess) for guess in guesses)


@pytest.mark.parametrize("example", [None, ("The list.", "The function's list.")], ids=["default", "pair"])
def test_text_classification_code_of_the_card_runs(tmp_path, tokenizer, example, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    GAUForSequenceClassification(tiny_config()).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (answer,) = run_code(write_and_load(tmp_path, glue_facts(example=example)), capsys)
    assert "'label': 'LABEL_" in answer


def test_repo_id_and_example_go_into_the_code(tmp_path):
    facts = pretraining_facts(repo_id="someone/gau", example='It\'s a "{mask}".')
    code = code_of(write_and_load(tmp_path, facts))
    compile(code, "card", "exec")
    assert 'model="someone/gau"' in code
    assert str(tmp_path) not in code
    # Where the mask token is named, braces are text.
    facts = pretraining_facts(example='f"{mask}[MASK]"', mask_token="[MASK]")
    code = code_of(write_and_load(tmp_path, facts))
    assert r'text = "f\"{mask}" + fill_mask.tokenizer.mask_token + "\""' in code


def test_without_a_repo_id_the_code_names_the_directory(tmp_path, monkeypatch):
    assert 'model="gau-of-mine"' in code_of(write_and_load(tmp_path / "gau-of-mine", pretraining_facts()))
    monkeypatch.chdir(tmp_path)
    assert 'model="run"' in code_of(ModelCard.load(write_model_card("outputs/run", pretraining_facts())))


@pytest.mark.parametrize("language", ["zh", ["zh", "en"], ["zho"]])
@pytest.mark.parametrize("task", ["fill-mask", "text-classification", "feature-extraction"])
def test_the_usage_example_of_a_chinese_card_is_chinese(tmp_path, language, task):
    code = code_of(write_and_load(tmp_path, pretraining_facts(language=language, task=task)))
    compile(code, "card", "exec")
    lines = code.splitlines()
    comments = [index for index, line in enumerate(lines) if line.startswith("#")]
    assert len(comments) == 2 and all(
        is_chinese(re.sub(r"[#\w=()]+", "", lines[index], flags=re.A)) for index in comments
    )
    assert "trust_remote_code=True" in lines[comments[0]] and "trust_remote_code=True)" in lines[comments[0] + 1]
    assert "北京是中国的" in code and "The function" not in code and "A film" not in code
    # A tokenizer asks for the permission as well: it reads the configuration.
    assert code.count("from_pretrained(") in (0, code.count("trust_remote_code=True)"))


def test_without_a_language_the_example_says_whether_the_card_is_chinese(tmp_path):
    chinese = code_of(write_and_load(tmp_path, pretraining_facts(language=None, example="今天天气很{mask}。")))
    assert '"今天天气很" +' in chinese and "\n# " in chinese
    pair = glue_facts(language=None, example=("昨天下了雨", "昨天下过雨"), config=BertConfig())
    code = code_of(write_and_load(tmp_path, pair))
    assert code.count("\n# ") == 1 and "trust_remote_code" not in code  # nothing to say about code that is not there
    for facts in (pretraining_facts(), pretraining_facts(language=["en", "zh"]), pretraining_facts(language=None)):
        assert "#" not in code_of(write_and_load(tmp_path, facts))


def test_japanese_is_not_chinese():
    assert is_chinese("这部电影真好看,推荐。") and is_chinese("の" + "这部电影真好看推荐" * 9)
    assert not is_chinese("東京都知事選挙の投票日は七月七日です") and not is_chinese("a good film")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "translation"}, "fill-mask, text-classification; got 'translation'"),
        ({"datasets": "someone/manuals"}, "`datasets` is a list"),
        ({"length_results": [{"loss": 3.0}]}, "`length` among them"),
        ({"length_results": [{"length": 8, "loss": 3.0}, {"length": 16}]}, "the same keys"),
    ],
)
def test_wrong_facts_are_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pretraining_facts(**changes)


@pytest.mark.parametrize("example", ["no mask", "{mask} and {mask}", ("a", "{mask}")])
def test_wrong_example_leaves_no_file(tmp_path, example):
    with pytest.raises(ValueError, match=r"one `\{mask\}` in it"):
        write_model_card(tmp_path, pretraining_facts(example=example))
    assert not list(tmp_path.iterdir())


def test_numbers_of_parameters_are_readable():
    numbers = {"999": 999, "15,000": 15_000, "3.4 million": 3_440_000, "2.5 billion": 2_500_000_000}
    assert [count(value) for value in numbers.values()] == list(numbers)
