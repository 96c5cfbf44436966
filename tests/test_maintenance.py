# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What contributors and maintainers go by: pages that name files and code, the version, the workflow."""

import os
import re
from pathlib import Path

import pytest
import yaml

import modeling_gau


ROOT = Path(__file__).parents[1]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"])
def test_pages_name_files_and_constants_that_exist(name):
    words = re.findall(r"`([\w./*-]+)`", (ROOT / name).read_text(encoding="utf-8"))
    paths = [word for word in words if "/" in word and "." in word]
    sources = [path for folder in ("modeling_gau", "tests") for path in (ROOT / folder).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    assert [path for path in paths if not list(ROOT.glob(path))] == []
    constants = [word for word in words if re.fullmatch(r"_?[A-Z][A-Z_]+", word)]
    assert [constant for constant in constants if not re.search(rf"\b{constant}\b.* = ", code)] == []


def test_one_version():
    """The changelog has its section before the release, under another title."""
    version = modeling_gau.__version__
    assert f'version="{version}"' in SETUP  # the wheel's is compared in test_packaging.py
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    for readme in ("README.md", "README.zh.md"):
        assert f"version = {{{version}}}" in (ROOT / readme).read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\].*?(?=^## |\Z)", changelog, flags=re.MULTILINE | re.DOTALL)
    assert newest[1] == version or (newest[1] == "Unreleased" and version in newest[0])


def test_the_workflow_runs_the_same_command_on_supported_versions():
    path = ROOT / ".github/workflows/tests.yml"
    (job,) = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run", "make docs"] and os.access(ROOT / ".ci/run", os.X_OK)
    assert "\ndocs:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(job["strategy"]["matrix"]["python"]) <= set(re.findall(r"Python :: (3\.\d+)", SETUP))


def test_issue_forms_have_what_a_form_needs():
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir() if path.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert all(field["attributes"]["label"] for field in form["body"])
