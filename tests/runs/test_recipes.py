# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Recipes and the command line: what wins, what is converted, and what is refused."""

import itertools
import json
import time
from dataclasses import dataclass, field

import pytest
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.recipes import parse_arguments, read_recipe
from modeling_gau.text.arguments import DataArguments


@dataclass
class Run:
    """One field of each kind that recipes have to fill."""

    output: str = field()
    steps: int = 10
    rate: float = 0.1
    flag: bool = False
    default_on: bool = True
    maybe: bool | None = None
    lengths: list[int] = field(default_factory=lambda: [1, 2])
    files: list[str] | None = None
    options: dict | str | None = None
    word: str | None = None


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def parse(tmp_path, recipe, *command_line, classes=(Run,), name="recipe.yaml"):
    return parse_arguments(classes, ["--config", write(tmp_path / name, recipe), *command_line])


def test_command_line_alone():
    (run,) = parse_arguments([Run], ["--output", "out", "--lengths", "3", "4", "--flag", "--no_default_on"])
    assert run == Run(output="out", lengths=[3, 4], flag=True, default_on=False)


def test_a_switch_with_three_states_needs_no_value():
    for words, expected in (([], None), (["--maybe"], True), (["--maybe", "false"], False)):
        assert parse_arguments([Run], ["--output", "out", *words])[0].maybe is expected


def test_recipe_fills_every_kind_of_field(tmp_path):
    (run,) = parse(
        tmp_path,
        "output: out\nsteps: '20'\nrate: 5e-4\nflag: yes\ndefault_on: false\nmaybe: false\nlengths: [64, '128']\n"
        "files: a.txt\noptions: {min_lr: 1e-5, deep: {x: [1, no]}}\nword: 'no'\n",
    )
    # Dataclasses that take a mapping parse JSON, as TrainingArguments do.
    assert json.loads(run.options) == {"min_lr": 1e-5, "deep": {"x": [1, "no"]}}
    expected = {"steps": 20, "rate": 5e-4, "flag": True, "default_on": False, "maybe": False}
    expected |= {"lengths": [64, 128], "files": ["a.txt"], "options": run.options, "word": "no"}
    assert run == Run(output="out", **expected)
    (run,) = parse(tmp_path, "output: out\nrate: 3\nword: -5-\n")
    assert type(run.rate) is float and (run.rate, run.word) == (3.0, "-5-")


def test_command_line_wins_over_recipe(tmp_path, capsys):
    recipe = "output: out\nsteps: 20\nrate: 0.5\ndefault_on: true\nlengths: [64, 128]\n"
    (run,) = parse(tmp_path, recipe, "--steps", "30", "--no_default_on", "--lengths", "8")
    assert run == Run(output="out", steps=30, rate=0.5, default_on=False, lengths=[8])
    reported = capsys.readouterr().out
    assert str(tmp_path / "recipe.yaml") in reported
    assert "overrides default_on, lengths, steps." in reported


def test_command_line_wins_with_the_value_of_the_default(tmp_path):
    (run,) = parse(tmp_path, "output: out\nsteps: 20\nmaybe: true\n", "--steps", "10", "--maybe", "false")
    assert (run.steps, run.maybe) == (10, False)


def test_other_processes_do_not_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    parse(tmp_path, "output: out\n")
    assert capsys.readouterr().out == ""


def test_json_recipe(tmp_path):
    text = json.dumps({"output": "out", "rate": 5e-4, "options": {"a\t": "\u00e9"}, "word": None}, indent="\t")
    (run,) = parse(tmp_path, text, name="recipe.json")
    assert json.loads(run.options) == {"a\t": "\u00e9"}
    assert run == Run(output="out", rate=5e-4, options=run.options)


def test_empty_recipe_is_no_values(tmp_path):
    (run,) = parse(tmp_path, "# nothing yet\n", "--output", "out")
    assert run == Run(output="out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("step: 3", "no argument 'step'. Did you mean steps?"),
        ("no_default_on: true", "no argument 'no_default_on'. Did you mean default_on?"),
        ("config: other.yaml", "no argument 'config'"),
        ("steps: many", "argument --steps: invalid int value: 'many'"),
        ("steps: 1e3", "argument --steps: invalid int value: '1000.0'"),
        ("steps: true", "argument --steps: invalid int value: 'true'"),
        ("steps:", "argument --steps: expected a value, got null"),
        ("rate: [1, 2]", "argument --rate: expected one value, got the list [1, 2]"),
        ("flag: maybe", "argument --flag: Truthy value expected: got maybe"),
        ("lengths: {a: 1}", "argument --lengths: expected a value, got {'a': 1}"),
        ("lengths: [1, x]", "argument --lengths: invalid int value: 'x'"),
        ("lengths: []", "argument --lengths: expected at least one argument"),
        ("word: 3", "argument --word: expected text, got 3: quote it"),
        ("word: [a]", "argument --word: expected one value, got the list ['a']"),
        ("steps: 3\nsteps: 4", "steps given more than once"),
        ("steps: [", "cannot be read"),
    ],
)
def test_bad_recipe_values(tmp_path, line, message):
    with pytest.raises(ValueError) as error:
        parse(tmp_path, f"output: out\n{line}\n")
    assert message in str(error.value)
    assert str(tmp_path / "recipe.yaml") in str(error.value)


def test_lists_and_mappings_that_a_command_line_has_no_form_for(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "report_to: [tensorboard, wandb]\noptim_target_modules: [attn, mlp]\nlr_scheduler_kwargs: {num_cycles: 2}\n"
    )
    options = ["--config", str(recipe), "--output_dir", str(tmp_path)]
    (args,) = parse_arguments((TrainingArguments,), options)
    assert args.report_to == ["tensorboard", "wandb"] and args.optim_target_modules == ["attn", "mlp"]
    assert args.lr_scheduler_kwargs == {"num_cycles": 2}
    for line, message in (
        ("train_file: [a.txt, -b.txt]", "must not begin with a dash"),
        ("length_schedule: {512: 0.9}", "length_schedule"),
    ):
        recipe.write_text(line)
        with pytest.raises(ValueError, match=message):
            parse_arguments((DataArguments,), ["--config", str(recipe)])


def test_recipe_must_be_a_mapping(tmp_path):
    with pytest.raises(ValueError, match="must be a mapping of arguments to values, got a list"):
        parse(tmp_path, "- output: out\n")


def test_missing_recipe_names_a_near_one(tmp_path):
    write(tmp_path / "tiny.yaml", "steps: 3\n")
    with pytest.raises(ValueError, match=r"tinny\.yaml: no such recipe file\. Did you mean .*tiny\.yaml\?"):
        parse_arguments([Run], ["--config", str(tmp_path / "tinny.yaml")])


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--output", "out", "--stpes", "3"], "there is no option --stpes (did you mean --steps?)"),
        (["--output", "out", "--step=3"], "there is no option --step (did you mean --steps?)"),
        (["--output", "out", "recipe.yaml"], "give a recipe as --config recipe.yaml"),
        (["--steps", "3"], "required: --output"),
        (["--output", "out", "--steps", "x"], "invalid int value: 'x'"),
    ],
)
def test_bad_command_line(command_line, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([Run], command_line)
    assert message in capsys.readouterr().err


def test_help_keeps_the_lines_of_the_description(capsys):
    with pytest.raises(SystemExit):
        parse_arguments([Run], ["--help"], description="What it does.\n\n    run.py --steps 3\n")
    shown = capsys.readouterr().out
    assert "\n    run.py --steps 3\n" in shown and "--config RECIPE" in shown and "(default: None)" in shown


def test_training_arguments(tmp_path):
    recipe = """
        learning_rate: 5e-4
        output_dir: out
        eval_strategy: no
        save_strategy: epoch
        warmup_steps: 100
        max_steps: 7
        lr_scheduler_kwargs: {num_cycles: 2}
        accelerator_config: '{"split_batches": true}'
        report_to: none
        dataloader_pin_memory: false
        greater_is_better: false
        tf32: null
        optim: adamw_torch
        use_cpu: true
        eval_lengths: [64, 128]
        fixed_n: 512
        dtype: bfloat16
    """
    model, data, training = parse(
        tmp_path, recipe, "--learning_rate", "1e-3", classes=(ModelArguments, DataArguments, TrainingArguments)
    )
    assert (model.fixed_n, model.dtype, data.eval_lengths) == (512, "bfloat16", [64, 128])
    assert (training.learning_rate, training.output_dir, training.warmup_steps) == (1e-3, "out", 100)
    assert training.eval_strategy is IntervalStrategy.NO and training.save_strategy.value == "epoch"
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}
    assert training.accelerator_config.split_batches is True
    assert training.report_to == []
    assert training.dataloader_pin_memory is False and training.greater_is_better is False


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("eval_strategy: never", "invalid choice: 'never' (choose from"),
        ("text_unit: word", "invalid choice: 'word' (choose from"),
        ("lerning_rate: 1", "Did you mean learning_rate?"),
        ("overwrite_output_dir: true", "no argument 'overwrite_output_dir'"),
    ],
)
def test_bad_values_for_the_scripts(tmp_path, line, message):
    with pytest.raises(ValueError) as error:
        parse(tmp_path, line, classes=(ModelArguments, DataArguments, TrainingArguments))
    assert message in str(error.value)


PAIRS = list(itertools.pairwise("abcdefghi"))


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "aliases.yaml",
            "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in PAIRS),
            "aliases stand for more than 10,000 values: write them out",
        ),
        ("itself.yaml", "train_file: &a [*a]", "an alias stands within the value that it names"),
        ("deep.yaml", "a: " + "[" * 1_500, "nested too deeply"),
        ("deep.json", '{"a": ' + "[" * 200_000, "nested too deeply"),
        ("key.yaml", "? [a]\n: b", "a key must be a word"),
    ],
)
def test_recipes_that_unfold_to_too_much_are_refused_at_once(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    began = time.perf_counter()
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .*{message}"):
        read_recipe(tmp_path / name)
    assert time.perf_counter() - began < 5


def test_a_few_aliases_stand(tmp_path):
    (tmp_path / "recipe.yaml").write_text("a: &a [x, y]\nb: [*a, *a]\nc: *a")
    assert read_recipe(tmp_path / "recipe.yaml") == {"a": ["x", "y"], "b": [["x", "y"]] * 2, "c": ["x", "y"]}
