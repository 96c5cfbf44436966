# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""README and guides state commands, files and names: each is held against what is there."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_gau.attention_gau import ATTENTION_BACKENDS, ATTENTION_NORMALIZATIONS
from modeling_gau.glue.arguments import GlueArguments
from modeling_gau.glue.study import StudyArguments
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.lengths.compare import parse_command_line
from modeling_gau.lengths.measuring import LengthArguments
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.text.arguments import DataArguments


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")
SCRIPT_ARGUMENTS = {
    "run_pretrain.py": (ModelArguments, DataArguments, CardArguments, PretrainingArguments),
    "run_glue.py": (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments),
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str = README) -> list[str]:
    return [line for block in blocks("bash", text) for line in block.replace("\\\n", "").splitlines()]


def script_commands() -> list[str]:
    guides = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    lines = [line for text in (README, *guides) for line in commands(text)]
    return [line for line in lines if any(f"{name} " in line for name in SCRIPT_ARGUMENTS)]


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)[1]


def first_column(title: str) -> set[str]:
    rows = section(title).split("\n|---", 1)[1]
    cells = re.findall(r"^\|([^|]*)\|", rows, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("command", script_commands())
def test_script_commands_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.partition("||")[0], comments=True)
    (script,) = set(words) & set(SCRIPT_ARGUMENTS)
    assert parse_arguments(SCRIPT_ARGUMENTS[script], [*words[words.index(script) + 1 :], "--use_cpu"])
    for word in words:
        assert not word.startswith("configuration/") or (ROOT / word).is_file()


def test_links_lead_somewhere():
    folders = {"": "README*.md", "docs": "*.md", "benchmarks/results": "*.md"}
    for path in (path for folder, pattern in folders.items() for path in (ROOT / folder).glob(pattern)):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_chinese_readme_covers_the_same_ground():
    english, chinese = ([line.partition("#")[0].rstrip() for line in commands(text)] for text in (README, CHINESE))
    assert chinese == english
    assert blocks("python", CHINESE) == blocks("python")
    # The tree of files is not translated.
    titles = [len(re.findall(r"^## ", text, flags=re.MULTILINE)) for text in (README, CHINESE)]
    assert titles[0] == titles[1] + 1
    names, numbers = r"^\| `([\w-]+)`", r"\d+\.\d M"
    for pattern in (names, numbers, r"\]\(((?:docs|benchmarks|https)[^)]+)\)"):
        found = re.findall(pattern, CHINESE, flags=re.MULTILINE)
        assert found == re.findall(pattern, README, flags=re.MULTILINE) and len(found) > 4


def test_make_targets_exist():
    stated = {line.split()[1] for line in commands() if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert stated == {"quickstart", "test"}
    assert stated <= set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))


def test_the_quickstart_ends_with_commands_that_work(monkeypatch):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    printed = re.findall(r"^\t\t'(.*?)'(?: \\)?$", makefile, flags=re.MULTILINE)
    text = "\n".join(printed).replace("\\\n", "")
    lines = [line.split() for line in text.splitlines() if line.startswith("    python ")]
    assert [line[1:3] for line in lines] == [
        ["run_glue.py", "--model_name_or_path"],
        ["-m", "modeling_gau.lengths.compare"],
        ["-m", "modeling_gau.lengths"],
    ]
    monkeypatch.chdir(ROOT)
    assert all(Path(word).is_file() for line in lines for word in line if word.startswith("examples/"))
    assert parse_arguments(SCRIPT_ARGUMENTS["run_glue.py"], [*lines[0][2:], "--use_cpu"])
    assert parse_command_line(lines[1][3:]) and parse_arguments((LengthArguments,), lines[2][3:])


def test_quickstart_writes_where_the_readme_reads():
    recipe = (ROOT / "configuration" / "recipes" / "pretrain" / "quickstart.yaml").read_text(encoding="utf-8")
    (output_dir,) = re.findall(r"^output_dir: (.+)$", recipe, flags=re.MULTILINE)
    assert f'from_pretrained("{output_dir}"' in README


def test_python_code_compiles():
    assert blocks("python")
    for code in blocks("python"):
        compile(code, "README.md", "exec")


def test_files_exist():
    (tree,) = re.findall(r"^```\n(.*?)^```$", section("Files"), flags=re.MULTILINE | re.DOTALL)
    folder = ""
    for line in tree.splitlines():
        names = re.split(r"  +", line.strip())[0].split(", ")
        folder = names[0] if not line.startswith(" ") and names[0].endswith("/") else folder if line[0] == " " else ""
        for name in names:
            pattern = name if name == folder else folder + name
            assert list(ROOT.glob(pattern.rstrip("/"))), pattern


def test_every_room_and_module_at_the_top_is_listed():
    package = ROOT / "modeling_gau"
    names = {path.name for path in package.glob("*.py") if not path.stem.startswith("__")}
    names |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert {name for name in names if f"  {name} " not in section("Files")} == set()


def test_tables_list_every_normalization_and_backend():
    assert first_column("Attention normalizations") == set(ATTENTION_NORMALIZATIONS)
    # Other tests may have registered backends of their own.
    backends = ATTENTION_BACKENDS.items()
    own = {name for name, backend in backends if backend.forward.__module__.startswith("modeling_gau.")}
    assert first_column("Attention backends") == own
