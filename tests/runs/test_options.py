# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Programs answer --help and a wrong option from their source code, before they import PyTorch."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import HfArgumentParser

import run_glue
import run_pretrain
from modeling_gau import export
from modeling_gau.__main__ import TOOLS
from modeling_gau.configuration_gau import NORMALIZATION_USES_N
from modeling_gau.gau_alpha import convert
from modeling_gau.glue.arguments import GlueArguments
from modeling_gau.glue.study import StudyArguments
from modeling_gau.glue.tasks import BENCHMARKS
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.lengths import compare, figures, measuring, study, study_report
from modeling_gau.lengths.measuring import LengthArguments
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs import options
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.text.arguments import DataArguments


PRETRAIN, GLUE = Path(run_pretrain.__file__), Path(run_glue.__file__)
CLASSES = {
    PRETRAIN: (ModelArguments, DataArguments, CardArguments, PretrainingArguments),
    GLUE: (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments),
}
TOOL_CLASSES = {Path(measuring.__file__): (LengthArguments,), Path(export.__file__): (export.ExportArguments,)}
PARSERS = {
    "modeling_gau.lengths.figures": (figures.main, ["results.csv"]),
    "modeling_gau.lengths.compare": (compare.main, ["--output_dir", "out", "--normalizations", "sigmoid"]),
    "modeling_gau.lengths.study": (study.main, ["--config", "study.yaml", "--output_dir", "out", "--stages", "tune"]),
    "modeling_gau.lengths.study_report": (study_report.main, ["--results", "results"]),
    "modeling_gau.gau_alpha": (convert.main, ["--input", "a", "--output", "b", "--to_port"]),
}
SCRIPTS = pytest.mark.parametrize("script", CLASSES, ids=lambda path: path.name)


def answer(capsys, script, *words):
    with pytest.raises(SystemExit) as exit:
        options.answer(script, words)
    shown = capsys.readouterr()
    return exit.value.code, shown.out + shown.err


@pytest.mark.parametrize("script", CLASSES | TOOL_CLASSES, ids=lambda path: path.name)
def test_options_are_read_as_the_parser_of_the_run_makes_them(script):
    made = {}
    for action in HfArgumentParser((CLASSES | TOOL_CLASSES)[script])._actions:
        made.setdefault(action.dest, action)
    read = options.read_options(script)
    assert read.keys() == made.keys() - {"help"}
    for name, option in read.items():
        action = made[name]
        assert option.nargs == ("?" if option.kind is bool else action.nargs), name  # also of `bool | None`
        if name != "debug":  # HfArgumentParser forgets its default
            assert option.default == action.default, name
        if name not in ("log_level", "log_level_replica"):  # a computed list, which the run itself checks
            assert list(option.choices) == [str(choice) for choice in action.choices or ()], name
        if option.kind in (int, float):
            assert action.type is option.kind, name


def answer_tool(name, *words):
    options.answer_module(["-m", *words], ["python", "-W", "error", "-m", name, *words])


@pytest.mark.parametrize("tool", PARSERS)
def test_a_parser_is_read_as_the_tool_makes_it(tool, monkeypatch):
    main, words = PARSERS[tool]
    parsers = []

    def parse_args(parser, argv=None):
        parsers.append(parser)
        raise InterruptedError

    monkeypatch.setattr(options.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr("sys.argv", ["-m", *words])
    for run in (main, lambda: answer_tool(tool, *words)):
        with pytest.raises(InterruptedError):
            run()
    made, read = parsers
    assert read.prog == f"python -m {tool}" and read.description == made.description
    for parser in parsers:
        parser.prog = "tool"
    assert read.format_help() == made.format_help()
    assert [vars(action) | {"container": None} for action in read._actions[1:]] == [
        vars(action) | {"container": None} for action in made._actions[1:]
    ]


@pytest.mark.parametrize("tool", [*TOOLS, "modeling_gau"])
def test_a_tool_answers_before_pytorch(tool):
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", tool, "--help"], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    assert " argparse\n" in process.stderr
    assert "torch" not in process.stderr and "transformers" not in process.stderr
    expected = "Each tool explains itself" if tool == "modeling_gau" else f"usage: python -m {tool} ["
    assert process.stdout.startswith(expected)


def test_a_wrong_option_of_a_tool_is_one_line(capsys):
    for tool, words, message in (
        ("modeling_gau.lengths", ["--lenghts", "8"], "there is no option --lenghts (did you mean --lengths?)"),
        ("modeling_gau.export", ["--format", "onx"], "argument --format: invalid choice: 'onx' (choose from"),
        ("modeling_gau.lengths.figures", ["a.csv", "--out", "x", "--dpi", "9"], "there is no option --dpi"),
        ("modeling_gau.gau_alpha", ["--input", "a"], "the following arguments are required: --output"),
    ):
        with pytest.raises(SystemExit) as exit:
            answer_tool(tool, *words)
        shown = capsys.readouterr().err
        assert exit.value.code == 2
        assert shown.startswith(f"error: {message}") and shown.count("\n") == 1


def test_what_a_tool_takes_passes(capsys):
    for tool, (_, words) in PARSERS.items():
        assert answer_tool(tool, *words) is None
    answer_tool("modeling_gau.lengths", "--fixed-n", "dynamic", "train", "--output_file", "out.csv")
    answer_tool("modeling_gau.export", "--model_name_or_path", "a", "--quantize", "int8")
    answer_tool("pytest", "--no_such_option")
    answer_tool("modeling_gau.no_such_tool")
    assert capsys.readouterr() == ("", "")


@SCRIPTS
@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_has_groups_and_fits_the_terminal(script, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    code, shown = answer(capsys, script, "--help")
    data = ["Data:", "Masking and lengths:"] if script == PRETRAIN else ["Data and task:"]
    titles = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    several = ["Several runs:"] if script == GLUE else []
    assert code is None
    assert titles == ["This script:", "Model:", *data, "Training:", *several, "Output:", "Hub:"]
    described = shown[shown.index("This script:") :]
    assert all(len(line) < width for line in described.splitlines() if not line.startswith("  --"))
    assert len(described.splitlines()) < {60: 330, 80: 250, 120: 180}[width]
    text = " ".join(described.split())
    assert ", ".join(NORMALIZATION_USES_N) in text and "--eval_strategy no|steps|epoch" in text
    assert "linear, cosine, cosine_with_restarts" in text and "--ddp_timeout" not in text


@SCRIPTS
def test_help_all_shows_every_option(script, capsys):
    code, shown = answer(capsys, script, "--help-all")
    assert code is None
    assert [name for name in options.read_options(script) if f"  --{name}" not in shown] == []
    assert "adamw_torch_8bit" in shown and "The timeout" in shown


def test_what_help_names_exists():
    known = {name: option for script in CLASSES for name, option in options.read_options(script).items()}
    assert [name for names in options._PLACES.values() for name in names if name not in known] == []
    named = known["optim"].help.partition(": ")[2].partition(" (")[0].split(", ")
    assert len(named) == 5 and {*named} < {*known["optim"].choices}
    tasks = ", ".join(name for benchmark in BENCHMARKS.values() for name in benchmark.tasks)
    assert tasks == known["task_name"].help.partition("for glue ")[2].replace("; for clue", ",").rstrip(".")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (["--lerning_rate", "1"], "there is no option --lerning_rate (did you mean --learning_rate?)"),
        (["--learning-rat=1"], "(did you mean --learning_rate?)"),
        (["--packing", "dense"], "argument --packing: invalid choice: 'dense' (choose from"),
        (["--lr_scheduler_type", "cosin"], "argument --lr_scheduler_type: invalid choice: 'cosin'"),
        (["--max_steps", "1e3"], "argument --max_steps: invalid int value: '1e3'"),
        (["--bf16", "maybe"], "argument --bf16: expected true or false, got 'maybe'"),
        (["--eval_lengths"], "argument --eval_lengths: expected at least one argument"),
        (["recipe.yaml"], "give a recipe as --config recipe.yaml"),
    ],
)
def test_a_wrong_option_is_one_line(word, message, capsys):
    code, shown = answer(capsys, PRETRAIN, "--output_dir", "out", *word)
    assert code == 2
    assert shown.startswith("error: ") and shown.count("\n") == 1 and message in shown


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (PRETRAIN, "", "No model: give --model_name_or_path"),
        (GLUE, "--task_name rte", "No model: give --model_name_or_path"),
        (GLUE, "--model_name_or_path out", "No data: give --task_name, or --train_file"),
        (PRETRAIN, "--resume_from_checkpoint last", None),
        (GLUE, "--task_name rte --mnli_checkpoint mnli", None),
        (GLUE, f"--config {GLUE.parent}/configuration/recipes/glue/sst2.yaml", None),
    ],
)
def test_what_is_missing_is_named(script, words, message, capsys):
    if message is None:
        assert options.answer(script, words.split()) is None
    else:
        code, shown = answer(capsys, script, *words.split())
        assert code == 2 and shown.startswith(f"error: {message}") and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "run.yaml",
            "max_steps: 3\nlerning_rate: 1e-3\n",
            "there is no argument 'lerning_rate'. Did you mean learning_rate?",
        ),
        ("run.json", '{"max_steps": 3, "packng": "none"}', "there is no argument 'packng'. Did you mean packing?"),
        ("run.yml", None, "run.yml: no such recipe file."),
        ("run.yaml", "max_steps: 3\nlearning_rate: 1e-3\neval_lengths: [64, 128]\n", None),
        ("run.yaml", "max_steps: [3", None),  # the run says that it cannot be read
        ("run.yaml", "3", None),
        ("run.yaml", "", None),
    ],
)
def test_the_keys_of_a_recipe(tmp_path, name, content, message, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    words = f"--config {tmp_path / name} --output_dir out".split()
    if message is None:
        assert options.answer(PRETRAIN, words) is None
    else:
        code, shown = answer(capsys, PRETRAIN, *words)
        assert code == 2 and shown.startswith("error: ") and shown.endswith(f"{message}\n") and shown.count("\n") == 1


def test_what_the_run_takes_passes(tmp_path, capsys):
    (tmp_path / "any.yaml").write_text("max_steps: 3")
    words = "--bf16 --tf32 false --no_dataloader_pin_memory --mixed-lengths 64 128 --streaming false"
    options.answer(PRETRAIN, ["--config", str(tmp_path / "any.yaml"), *words.split()])
    assert capsys.readouterr() == ("", "")


@SCRIPTS
def test_the_answer_comes_before_pytorch(script, tmp_path):
    words = [sys.executable, "-X", "importtime", str(script), "--seeed", "3"]
    process = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert process.stderr.endswith("error: there is no option --seeed (did you mean --seed?)\n")
    assert "| argparse\n" in process.stderr and importlib.util.find_spec("torch") is not None
    assert "torch" not in process.stderr and "transformers" not in process.stderr


def test_sources_that_cannot_be_read_leave_the_answer_to_the_script(tmp_path, monkeypatch):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)  # no transformers
    options._read.cache_clear()
    assert options.answer(PRETRAIN, ["--no_such_option"]) is None
    options._read.cache_clear()
