# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Programs answer errors in one line, with exit code 2."""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers

from modeling_gau import GAUConfig, GAUError
from modeling_gau.runs.command_line import run_program
from modeling_gau.runs.options import ArgumentParser


ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "run_pretrain.py": ["--output_dir", "out", "--attention_normalization", "softmux"],
    "run_glue.py": ["--output_dir", "out", "--task_name", "sst3", "--model_name_or_path", "missing"],
    "examples/lora.py": [],
    "modeling_gau.export": ["--model_name_or_path", "missing", "--output_dir", "out"],
    "modeling_gau.gau_alpha": ["--input", "missing", "--output", "out"],
    "modeling_gau.lengths": ["--model_name_or_path", "missing", "--output_file", "out.csv"],
    "modeling_gau.lengths.figures": ["missing.csv"],
    "modeling_gau.lengths.study": ["--config", "missing.yaml", "--output_dir", "out"],
    "modeling_gau.lengths.study_report": ["--results", "missing"],
}


def raising(error: BaseException):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "error",
    [GAUError("--size 0:\n  must be positive."), OSError(28, "No space left on device"), ImportError("no peft")],
)
def test_an_explained_error_is_one_line(error, capsys):
    with pytest.raises(SystemExit) as exit:
        run_program(raising(error))
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert said.startswith(f"error: {' '.join(str(error).split())}") and said.count("\n") == 1


def test_notes_say_what_to_do(capsys):
    error = GAUError("no upload")
    error.add_note("The model is safe. This command uploads it:\n    hf upload a b")
    with pytest.raises(SystemExit):
        run_program(raising(error))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: no upload", "The model is safe. This command uploads it:", "    hf upload a b"]


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int):
        raise GAUError("notes.txt, line 3: this is not UTF-8.")


def test_an_error_in_a_worker_is_as_short(capsys):
    with pytest.raises(SystemExit):
        run_program(lambda: list(torch.utils.data.DataLoader(Rows(), num_workers=1)))
    assert capsys.readouterr().err == "error: notes.txt, line 3: this is not UTF-8.\n"


def test_a_fault_of_the_program_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_program(raising(ZeroDivisionError()))


def test_a_log_level_shows_the_traceback(capsys):
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_debug()
    try:
        with pytest.raises(SystemExit):
            run_program(lambda: GAUConfig(hidden_size=0))
    finally:
        transformers.logging.set_verbosity(before)
    said = capsys.readouterr().err
    assert "Traceback" in said and said.splitlines()[-1].startswith("error: ") and "hidden_size" in said


def test_ctrl_c_has_its_own_exit_code(capsys):
    with pytest.raises(SystemExit) as exit:
        run_program(raising(KeyboardInterrupt()))
    assert exit.value.code == 130
    assert capsys.readouterr().err.strip() == "Interrupted."


def test_sigterm_ends_a_program_by_an_exception(capsys):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    left = []

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            left.append("cleaned")

    with pytest.raises(SystemExit) as exit:
        run_program(main)
    assert (exit.value.code, left) == (143, ["cleaned"])


def test_help_shows_how_a_tool_is_called(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["figures.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("modeling_gau.lengths.figures", run_name="__main__", alter_sys=True)
    assert capsys.readouterr().out.startswith("usage: python -m modeling_gau.lengths.figures ")


def test_a_wrong_option_brings_no_pages_of_usage(capsys):
    parser = ArgumentParser()
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as exit:
        parser.parse_args(["--size", "many"])
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: argument --size: invalid int value: 'many'\n"


def test_a_wrong_option_names_the_nearest(capsys):
    parser = ArgumentParser()
    parser.add_argument("--output_dir")
    with pytest.raises(SystemExit) as exit:
        parser.parse_args(["--output-dri", "out"])
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: there is no option --output-dri (did you mean --output_dir?)\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_answers_in_one_line(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, *PROGRAMS[program]])
    with pytest.raises(SystemExit) as exit:
        if program.endswith(".py"):
            runpy.run_path(str(ROOT / program), run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__")
    said = capsys.readouterr().err
    assert exit.value.code == 2, said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
