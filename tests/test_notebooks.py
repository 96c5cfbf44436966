# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Each notebook runs from top to bottom, and what it was committed with is fit to be read."""

import json
import os
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in ("csv_to_model", "normalizations_and_length")]
MACHINE = re.compile(
    r"(?<![\w.])/(home|mnt|opt|private|root|tmp|Users|usr|var|work)/|[A-Z]:\\\\|site-packages|0x[0-9a-f]{8}"
)


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def start(tmp_path_factory, make_model, make_tokenizer) -> Path:
    """A checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = make_tokenizer("the a is was good bad lovely awful book film".split())
    make_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, start, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    settings = {"GAU_SMOKE": "1", "GAU_START": start}
    folders = ("HF_DATASETS_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")
    for name, value in (settings | {name: tmp_path / name for name in folders}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path / "notebooks"}}).execute()
    assert list(tmp_path.rglob("model.safetensors"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "not run from top to bottom"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output.get("name") != "stderr" for output in outputs), "warnings or progress bars"
    for output in outputs:
        data = {kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")}
        assert MACHINE.search(json.dumps([output.get("text"), data])) is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links(path):
    text = "".join(line for cell in cells(path, "markdown") for line in cell["source"])
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert link.startswith("https://") or (path.parent / link).exists(), link
