"""A corpus on every machine that runs this package: the documentation inside its own software.

About eleven megabytes of English technical prose with code: the topics of the Python manual, and the docstrings of the
standard library and of the packages that every installation brings. Files are parsed; nothing is imported or run. The
text depends on the installed versions, so compare results within one installation: `corpus_fingerprint` tells
installations apart.
"""

import ast
import contextlib
import importlib.metadata
import inspect
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from ..configuration_gau import GAUError
from .fingerprints import digest


# Required by setup.py, the last three through the others.
DISTRIBUTIONS = (
    "transformers", "torch", "accelerate", "datasets", "evaluate", "safetensors", "numpy", "tokenizers",
    "huggingface_hub",
)  # fmt: skip
MAX_BYTES = 12_000_000
MIN_DOCUMENT_CHARACTERS = 200
# Parsing is slow: files with a smaller share of triple-quoted text are not worth the time.
MIN_DOCSTRING_SHARE = 0.25
SKIPPED_FOLDERS = frozenset(
    """__pycache__ _bundled _vendor dist-packages extern externals idlelib lib2to3 site-packages test testing tests
    third_party turtledemo vendor vendored ..""".split()
)

_TRIPLE_QUOTED = re.compile(rb'"""(.*?)"""', re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udfff]")  # legal in Python literals, but not in UTF-8
_VERSION_OF_RULES = 2  # raise it whenever the rules below change the corpus


def embedded_documents(max_bytes: int = MAX_BYTES) -> list[dict[str, str]]:
    """Collects the documents of the embedded corpus: `{"id", "text"}`, sorted by id.

    A document is a topic of the Python manual ("manual/assert"), or all docstrings of a module in source order, joined
    by blank lines ("torch/torch/nn/modules/conv.py"). A docstring that several modules repeat is kept once. Tests and
    vendored copies of other packages are left out. Modules are visited in hash order, so a cap takes a share of every
    package, and keeps the same modules when one of them changes.

    Args:
        max_bytes: stop before the document that would exceed this many bytes of UTF-8.

    Raises:
        ValueError: no documentation is found (an installation stripped of its sources).
    """
    documents, size, seen = [], 0, set()
    files = sorted(_module_files().items(), key=lambda item: digest(item[0]))
    with tqdm(total=max_bytes, desc="Reading the embedded corpus", unit="B", unit_scale=True) as progress:
        for identifier, text in _candidates(files, seen):
            added = len(text.encode("utf-8"))
            if size + added > max_bytes:
                break
            documents.append({"id": identifier, "text": text})
            size += added
            progress.update(added)
    if not documents:
        raise GAUError("The embedded corpus is empty: this installation has no documentation. Give --train_file.")
    return sorted(documents, key=lambda document: document["id"])


def corpus_fingerprint() -> str:
    """Identifies what `embedded_documents` returns here, by the installed versions and the rules."""
    rules = [_VERSION_OF_RULES, MAX_BYTES, MIN_DOCUMENT_CHARACTERS, MIN_DOCSTRING_SHARE]
    return digest(json.dumps([sys.version, str(_standard_library()), _installed(), rules], sort_keys=True))


def _candidates(files: list[tuple[str, Path]], seen: set[str]) -> Iterator[tuple[str, str]]:
    for topic, text in _manual_topics().items():
        text = inspect.cleandoc(text).rstrip()
        if text not in seen:
            yield f"manual/{topic}", text
        seen.add(text)
    for identifier, path in files:
        docstrings = [text for text in _docstrings(path) if text not in seen]
        seen.update(docstrings)
        text = "\n\n".join(dict.fromkeys(docstrings))
        if len(text) >= MIN_DOCUMENT_CHARACTERS:
            yield identifier, text


def _manual_topics() -> dict[str, str]:
    path = _standard_library() / "pydoc_data" / "topics.py"
    if not path.is_file():
        return {}
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            return dict(sorted(ast.literal_eval(statement.value).items()))
    return {}


def _standard_library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _module_files() -> dict[str, Path]:
    library = _standard_library()
    paths = {f"python/{path.relative_to(library).as_posix()}": path for path in library.rglob("*.py")}
    for name in _installed():
        for entry in importlib.metadata.files(name) or []:
            if entry.suffix == ".py":
                paths[f"{name}/{entry.as_posix()}"] = Path(entry.locate())
    return {identifier: path for identifier, path in paths.items() if not SKIPPED_FOLDERS & set(identifier.split("/"))}


def _installed() -> dict[str, str]:
    """The versions of those of `DISTRIBUTIONS` that are here: a clone may run without all of them."""
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _docstrings(path: Path) -> Iterator[str]:
    """Yields the docstrings of a source file in order; none if it has few or cannot be parsed."""
    try:
        source = path.read_bytes()
        if sum(map(len, _TRIPLE_QUOTED.findall(source))) < MIN_DOCSTRING_SHARE * len(source):
            return
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # invalid escapes
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return
    yield from _docstrings_of(tree)


def _docstrings_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        text = ast.get_docstring(node)  # through inspect.cleandoc
        if text:
            yield _SURROGATES.sub("\ufffd", text.rstrip())
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _docstrings_of(child)
