"""The documentation of the installed software as a corpus."""

import importlib.metadata
import sys
from types import SimpleNamespace

import pytest

from modeling_gau.text import embedded_corpus
from modeling_gau.text.embedded_corpus import corpus_fingerprint, embedded_documents
from modeling_gau.text.fingerprints import digest


def prose(topic):
    return f"About {topic}: " + " ".join([f"a sentence on {topic}, and another one."] * 8)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A standard library of two modules, and two packages."""
    module = '"""{}"""\n\nclass A:\n    """{}"""\n\n    if True:\n        def f():\n            """  {}\n\n'
    module += '            Left\n                deeper\n            """\n'
    topics = {"with": prose("with"), "as": prose("with"), "assert": prose("assert")}
    for path, text in {
        "library/pydoc_data/topics.py": f"topics = {topics}\n",
        "library/heap.py": module.format(prose("heaps"), prose("classes"), "indented"),
        "library/test/checks.py": f'"""{prose("checks")}"""\n',
        "library/site-packages/other.py": f'"""{prose("other")}"""\n',
        "torch/torch/nn.py": module.format(prose("layers"), prose("classes"), "indented"),
        "torch/torch/broken.py": f'"""{prose("broken")}"""\ndef (\n',
        "torch/torch/tests/unit.py": f'"""{prose("units")}"""\n',
        "torch/torch/_vendor/copied.py": f'"""{prose("copied")}"""\n',
        "torch/torch/code.py": f'"""{prose("code")}"""\n' + "x = 1\n" * 1000,
        "torch/torch/short.py": '"""Short."""\n',
        "torch/README.md": prose("readme"),
        "numpy/numpy/core.py": f'"""{prose("sums")}\\ud800"""\n',
        "sympy/sympy/sums.py": f'"""{prose("other")}"""\n',
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    def files(name):
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        entries = [importlib.metadata.PackagePath(path.relative_to(tmp_path / name)) for path in paths]
        for entry, path in zip(entries, paths, strict=True):
            entry.dist = SimpleNamespace(locate_file=lambda _, path=path: path)
        return entries

    monkeypatch.setattr(embedded_corpus, "DISTRIBUTIONS", ("torch", "numpy"))
    monkeypatch.setattr(importlib.metadata, "files", files)
    monkeypatch.setattr(embedded_corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "library")})
    return tmp_path


def test_what_is_in(machine):
    documents = {document["id"]: document["text"] for document in embedded_documents()}
    assert list(documents) == sorted(documents)
    modules = {"python/heap.py", "torch/torch/nn.py", "numpy/numpy/core.py"}
    assert set(documents) == {"manual/as", "manual/assert"} | modules  # "with" is the same text
    assert documents["manual/as"] == prose("with")
    assert documents["numpy/numpy/core.py"] == prose("sums") + "\ufffd"  # in place of half a surrogate pair
    assert embedded_documents() == embedded_documents()


def test_docstrings_in_order_cleaned_and_once(machine):
    documents = {document["id"]: document["text"] for document in embedded_documents()}
    # Both modules document their class and their method alike: the first one visited keeps those docstrings.
    first, second = sorted(("python/heap.py", "torch/torch/nn.py"), key=digest)
    topics = {"python/heap.py": "heaps", "torch/torch/nn.py": "layers"}
    whole = "\n\n".join([prose(topics[first]), prose("classes"), "indented\n\nLeft\n    deeper"])
    assert documents[first] == whole
    assert documents[second] == prose(topics[second])


def test_size_cap(machine):
    documents = embedded_documents(max_bytes=1100)
    size = sum(len(document["text"].encode()) for document in documents)
    assert 500 < size <= 1100
    assert {"manual/as", "manual/assert"} <= {document["id"] for document in documents}
    assert len(documents) < len(embedded_documents())


def test_nothing_is_imported(machine):
    (machine / "library" / "trap.py").write_text(f'"""{prose("traps")}"""\nraise SystemExit("imported")\n')
    before = set(sys.modules)
    assert "python/trap.py" in {document["id"] for document in embedded_documents()}
    assert set(sys.modules) == before


def test_fingerprint_follows_the_versions(machine, monkeypatch):
    before = corpus_fingerprint()
    assert corpus_fingerprint() == before
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.1")
    assert corpus_fingerprint() != before


def test_without_any_documentation(machine, monkeypatch):
    monkeypatch.setattr(embedded_corpus.sysconfig, "get_paths", lambda: {"stdlib": str(machine / "nowhere")})
    monkeypatch.setattr(embedded_corpus, "DISTRIBUTIONS", ())
    with pytest.raises(ValueError, match=r"has no documentation\. Give --train_file"):
        embedded_documents()


def test_this_installation():
    documents = embedded_documents(max_bytes=700_000)
    size = sum(len(document["text"].encode()) for document in documents)
    assert 400_000 < size <= 700_000
    folders = {document["id"].split("/")[0] for document in documents}
    assert "manual" in folders and len(folders) > 3
    texts = {document["id"]: document["text"] for document in documents}
    assert "assert" in texts["manual/assert"]
    assert len(set(texts.values())) == len(texts)
