# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The corpus of open packages: a small tree of packages becomes documents of prose."""

import gzip
import hashlib
import json
import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import open_corpus


DOC = "usr/share/doc"


def sentence(topic):
    return f"This paragraph is about {topic}, and it goes on for long enough. " * 5


def page(topic):
    return (
        "<html><head><title>Title</title><style>p {}</style></head><body>"
        '<div class="navheader"><div>Previous</div><br>Next</div><nav>Contents<p>of the book</nav>'
        f"<h1>The {topic}</h1><p>One &amp; <b>two</b>\n  of {sentence(topic)}<p>Every page says this.</p>"
        "<pre>x = 1;</pre><table><tr><td>&lt;=&gt; -&gt;</td></tr></table><script>run()</script></body></html>"
    )


@pytest.fixture
def root(tmp_path):
    anarchism = {f"{DOC}/anarchism/html/sec{n}.html": page(f"idea {n}") for n in range(3)}
    handbook = {f"{DOC}/debian-handbook/html/en-US/chapter{n}.html": page(f"chapter {n}") for n in range(240)}
    pod = (
        "Not pod.\n\n=head1 NAME\n\nTie B<bold C<< $x->y >>> to L<a text|target> E<lt>here\n\n    code();\n\n"
        f"=begin html\n\n<p>no\n\n=end html\n\n=for later no\n\n{sentence('pod')}\n\n=cut\n\nsub code {{}}\n"
    )
    files = anarchism | handbook
    files |= {
        f"{DOC}/debian-handbook/html/en-US/index.html": page("index"),
        f"{DOC}/debian-handbook/html/en-US/table.html": "<html><body>" + "<p>a short line</p>" * 99,
        f"{DOC}/debian-handbook/html/de-DE/kapitel.html": page("Kapitel"),
        f"{DOC}/rust-doc/html/std/vec.html": page("vectors"),
        f"{DOC}/linux-doc-6.1/Documentation/process/howto.rst": sentence("kernels"),
        "usr/share/perl/5.36.0/pod/perltie.pod": pod,
        "usr/share/perl/5.36.0/pod/perlcn.pod": pod,
        "bible.txt": "Ge1:1 In the beginning God created the heaven.\nGe1:2 And the earth was.\nGe2:1 Thus they\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    dictionaries = {
        "foldoc": "cat\nalias\n\n   <tool> To {list} a file.\n\n   [Source]\n\n   (1995-12-28)\n\n",
        "devil": "PREFACE\n\nEDIBLE, adj.  Good to eat, and\nwholesome.\n\n    A _verse_\n\nEAT, v.i.  To\n",
    }
    (tmp_path / "usr/share/dictd").mkdir()
    for name, text in dictionaries.items():
        (tmp_path / f"usr/share/dictd/{name}.dict.dz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_documents(root):
    found = dict(open_corpus.documents(root))
    topics = {name for name in found if name.startswith("debian-handbook/")}
    assert topics == {f"debian-handbook/chapter{n}.html" for n in range(240)}
    assert set(found) - topics == {
        "foldoc.dict.dz/0",
        "foldoc.dict.dz/1",
        "devil.dict.dz/0",
        "devil.dict.dz/1",
        "bible/Ge1",
        "bible/Ge2",
        "perl-doc/5.36.0/pod/perltie.pod",
    }
    # Neither navigation, code, symbols nor the line that all pages share
    assert found["debian-handbook/chapter7.html"] == f"The chapter 7\nOne & two of {sentence('chapter 7').strip()}"
    pod = f"NAME\nTie bold $x->y to a text <here\n{sentence('pod').strip()}"
    assert found["perl-doc/5.36.0/pod/perltie.pod"] == pod
    assert found["bible/Ge1"] == "In the beginning God created the heaven.\nAnd the earth was."
    assert found["devil.dict.dz/0"] == "EDIBLE, adj. Good to eat, and wholesome. A verse"
    assert found["foldoc.dict.dz/1"] == "alias: To list a file."


def test_files(root, tmp_path, monkeypatch, capsys):
    output = tmp_path / "text"
    monkeypatch.setattr(sys, "argv", ["open_corpus.py", "--root", str(root), "--output", str(output), "--shards", "2"])
    open_corpus.main()
    rows = {
        path.name: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in sorted(output.iterdir())
    }
    assert list(rows) == ["anarchism.jsonl", "train-00.jsonl", "train-01.jsonl", "validation.jsonl"]
    aside = rows.pop("anarchism.jsonl")
    assert [row["id"] for row in aside] == [f"anarchism/sec{n}.html" for n in range(3)]
    names = [row["id"].encode() for row in rows["validation.jsonl"]]
    assert len(names) > 1 and names == sorted(names, key=lambda name: hashlib.blake2b(name, digest_size=8).digest())
    trained = [row["text"] for part in rows.values() for row in part]
    assert trained and not any("idea" in text for text in trained)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("anarchism ")]
    assert line.split() == ["anarchism", "3", f"{sum(len(row['text']) for row in aside):,}", line.split()[3], "3"]
    assert lines[-1].split()[1] == str(len(trained) + 3)
