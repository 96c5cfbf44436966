# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""README and guides state commands, files and names: each is held against what is there."""

import re
import shlex
from pathlib import Path

import pytest
from pages import PAGES, README, ROOT, SETTINGS, blocks, commands, left_out, steps

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


FILES = (ROOT / "docs/files.md").read_text(encoding="utf-8")
STEPS = list(dict.fromkeys(step for path in PAGES for step in steps(path.read_text(encoding="utf-8"))))
SCRIPT_ARGUMENTS = {
    "run_pretrain.py": (ModelArguments, DataArguments, CardArguments, PretrainingArguments),
    "run_glue.py": (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments),
}


def script_commands() -> list[str]:
    lines = dict.fromkeys(line for path in PAGES for line in commands(path.read_text(encoding="utf-8")))
    return [line for line in lines if any(f"{name} " in line for name in SCRIPT_ARGUMENTS)]


def first_column(page: str, title: str) -> set[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)[1]
    rows = section.split("\n|---", 1)[1]
    cells = re.findall(r"^\|([^|]*)\|", rows, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def runs_at_once(code: str) -> bool:
    """Whether a Python block needs nothing but what is in the repository."""
    names = re.findall(r'(?:from_pretrained\(|model=)"(.*?)"|"([\w.-]+(?:/[\w.-]+)+)"', code)
    return left_out(code) is None and "outputs/" not in code and all((ROOT / "".join(name)).exists() for name in names)


@pytest.mark.parametrize("code", [code for kind, code in STEPS if kind == "python" and runs_at_once(code)])
def test_python_code_runs(code, tmp_path, monkeypatch):
    for name in ("checkpoints", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {"__name__": "__main__"})


def test_every_reason_to_leave_out_a_step_is_needed():
    texts = [text for texts in SETTINGS["left_out"].values() for text in texts]
    unused = [text for text in texts if not any(text in step for _, step in STEPS)]
    assert unused == []


@pytest.mark.parametrize("command", script_commands())
def test_script_commands_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.partition("||")[0], comments=True)
    (script,) = set(words) & set(SCRIPT_ARGUMENTS)
    assert parse_arguments(SCRIPT_ARGUMENTS[script], [*words[words.index(script) + 1 :], "--use_cpu"])
    for word in words:
        assert not word.startswith("configuration/") or (ROOT / word).is_file()


def test_commands_of_lengths_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = dict.fromkeys(line for path in PAGES for line in commands(path.read_text(encoding="utf-8")))
    words = [shlex.split(line, comments=True) for line in lines]
    compared = [line[3:] for line in words if line[1:3] == ["-m", "modeling_gau.lengths.compare"]]
    measured = [line[3:] for line in words if line[1:3] == ["-m", "modeling_gau.lengths"]]
    assert all(parse_command_line(line) for line in compared) and len(compared) > 2
    assert all(parse_arguments((LengthArguments,), line) for line in measured) and len(measured) > 1


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for path in [*PAGES, *(ROOT / "benchmarks/results").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text):
            target, _, anchor = "".join(link).partition("#")
            if target.startswith("https://"):
                continue
            linked = path.parent / target if target else path
            assert linked.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{path.name}: {target}#{anchor}"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_both_readmes_show_the_same_code_and_presets():
    chinese = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    english_steps, chinese_steps = (
        {step.partition(" #")[0].rstrip() for step in commands(text)} for text in (README, chinese)
    )
    assert chinese_steps == english_steps  # comments are translated, and GAU-α comes first
    presets = {path.name for path in (ROOT / "configuration/models").iterdir()}
    for text in (README, chinese):
        assert set(re.findall(r"^\| `([\w-]+)`", text, flags=re.MULTILINE)) >= presets
    sizes = [re.findall(r"\d+\.\d M", text) for text in (README, chinese)]
    assert set(sizes[1]) <= set(sizes[0]) and len(set(sizes[1])) > 4


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
    assert f"`{output_dir}`" in README


def test_python_code_compiles():
    codes = [(path.name, code) for path in PAGES for code in blocks("python", path.read_text(encoding="utf-8"))]
    assert {"README.md", "README.zh.md"} <= {name for name, _ in codes}
    for name, code in codes:
        compile(code, name, "exec")


def test_the_first_example_prints_what_the_readmes_show(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(blocks("python")[0], {})
    printed = capsys.readouterr().out
    for name in ("README.md", "README.zh.md"):
        assert f"```text\n{printed}```\n" in (ROOT / name).read_text(encoding="utf-8")


def test_files_exist():
    (tree,) = blocks("", FILES)
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
    assert {name for name in names if f"  {name} " not in FILES} == set()


def test_tables_list_every_normalization_and_backend():
    assert first_column("docs/normalizations.md", "Attention normalizations") == set(ATTENTION_NORMALIZATIONS)
    # Other tests may have registered backends of their own.
    backends = ATTENTION_BACKENDS.items()
    own = {name for name, backend in backends if backend.forward.__module__.startswith("modeling_gau.")}
    assert first_column("docs/backends.md", "Attention backends") == own
