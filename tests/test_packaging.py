# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import contextlib
import email
import importlib
import io
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import modeling_gau


ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools.build_meta import *; to = sys.argv[1]; build_sdist(to); build_wheel(to)"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """The folder of sdist and wheel, built from a copy: a build leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    for name in ("modeling_gau", "tests", "checkpoints", "configuration", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    output = tmp_path_factory.mktemp("dist")
    build = subprocess.run([sys.executable, "-c", BUILD, output], cwd=copy, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    return output


@pytest.fixture(scope="module")
def wheel(distributions) -> zipfile.ZipFile:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_wheel_holds_the_package_its_licence_and_nothing_else(wheel):
    contents = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "modeling_gau").rglob("*.py")}
    assert {"modeling_gau/modeling_gau.py", "modeling_gau/text/packing.py"} <= sources
    assert contents == sources | {"modeling_gau/py.typed", "modeling_gau/runs/model_card_template.md"}
    (name,) = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_sdist_holds_what_the_scripts_need(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = [path for name in ("modeling_gau", "configuration", "examples") for path in (ROOT / name).rglob("*")]
    files = {path.relative_to(ROOT).as_posix() for path in folders if path.is_file() and path.suffix != ".pyc"}
    assert {"modeling_gau/py.typed", "configuration/models/gau-tiny/config.json"} <= files
    assert files | {"LICENSE", "run_pretrain.py", "run_glue.py", "CHANGELOG.md"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_every_room_and_tool_works_from_the_wheel(wheel, tmp_path, in_fork_without_package):
    wheel.extractall(tmp_path)
    paths = [Path(name).with_suffix("") for name in wheel.namelist() if name.endswith(".py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__"]
    assert {name.split(".")[1] for name in modules if name.count(".") > 1} == {
        path.parent.name for path in (ROOT / "modeling_gau").glob("*/__init__.py")
    }
    in_fork_without_package(use_wheel, str(tmp_path), modules)


def use_wheel(folder: str, modules: list[str]) -> None:
    """Imports every module and asks every tool for help, from the unpacked wheel alone."""
    sys.path.insert(0, folder)
    for name in modules:
        assert importlib.import_module(name).__file__.startswith(folder), name
    from modeling_gau.__main__ import TOOLS

    for name in ("modeling_gau", *TOOLS):
        sys.argv[1:] = ["--help"]
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            try:
                runpy.run_module(name, run_name="__main__")
            except SystemExit as exit:
                assert exit.code in (None, 0), (name, exit.code)
        assert ("python -m modeling_gau.export " if name == "modeling_gau" else "usage:") in shown.getvalue(), name


def test_metadata(metadata):
    assert metadata["Name"] == "modeling-gau"
    assert metadata["Version"] == modeling_gau.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(">=3.11")
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_core_requirements_are_six_and_have_floors(metadata):
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    core = {requirement.name for requirement in requirements if requirement.marker is None}
    assert core == {"transformers", "torch", "accelerate", "datasets", "evaluate", "safetensors"}
    for requirement in requirements:
        # transformers has a ceiling too: its Trainer's private methods are overridden.
        operators = {">=", "<"} if requirement.name == "transformers" else {">="}
        assert {clause.operator for clause in requirement.specifier} == operators


def test_extra_all_holds_every_other_extra(metadata):
    extras = metadata.get_all("Provides-Extra")
    loggers, models = {"tensorboard", "trackio"}, {"peft", "sentence-transformers"}
    assert (
        set(extras)
        == {"all", "baselines", "chinese", "docs", "examples", "onnx", "optimizers", "plot", "test"} | loggers | models
    )
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]

    def required_by(extra: str) -> set[str]:
        return {r.name for r in requirements if r.marker is not None and r.marker.evaluate({"extra": extra})}

    assert required_by("all") == set().union(*(required_by(extra) for extra in extras if extra != "all"))
    assert {"pytest", "pytest-xdist", "ruff"} <= required_by("test")
