# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The documentation site: `make docs` builds it with Sphinx.

Its source is the repository, so the links of a page lead to the same files on the site as on the forge.
"""

import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path, PurePath

from sphinx.addnodes import pending_xref

import modeling_gau


project = "modeling-gau"
author = copyright = "The modeling_gau authors"
release = modeling_gau.__version__

# README.md is the front page. It gets the table of contents here, since a forge would show one as code.
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "notebooks/**.ipynb", "benchmarks/results/**.md"]
html_extra_path = ["index.html"]
# A page goes under the first pattern that it matches; pages in Chinese are called *.zh.
CONTENTS = {
    "Guides": ["docs/guides/*"],
    "Topics": ["docs/pretraining", "docs/scaling", "docs/fine_tuning", "docs/fine_tuning_heads", "docs/*"],
    "Notebooks": ["notebooks/*"],
    "Reference": ["docs/reference/command_line", "docs/reference/model", "docs/reference/*"],
    "Measurements": ["benchmarks/results/*", "benchmarks/results/*/*"],
    "中文": ["*.zh"],
    "Project": ["*"],
}

sys.path.append(str(Path(__file__).parent))
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
    "docstrings",  # beside this file
]
nb_execution_mode = "off"  # notebooks are committed with the outputs of a real run
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "html_image"]
suppress_warnings = ["myst.header"]  # the tables of the study leave out a level
# Public names of ours in a docstring must lead somewhere. Those of PyTorch would need a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!\.|GAU|modeling_gau).*|.*\b_.*")]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"modeling-gau {release}"
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


def add_contents(app, docname, source):
    if docname != root_doc:
        return
    pages = [PurePath(page) for page in sorted(app.env.found_docs) if page != root_doc]
    for caption, patterns in CONTENTS.items():
        here = [page for page in pages if (page.suffix == ".zh") == (caption == "中文")]
        chosen = list(dict.fromkeys(page for pattern in patterns for page in here if page.match(pattern)))
        pages = [page for page in pages if page not in chosen]
        if chosen:
            lines = "\n".join(f"/{page}" for page in chosen)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def add_modules(app, docname, source):
    """`% modules of modeling_gau.text` becomes the public names of every module of that room."""

    def modules_of(line: re.Match) -> str:
        room = import_module(line[1])
        paths = sorted(found.name for found in pkgutil.iter_modules(room.__path__) if found.name != "__main__")
        names = [f"{line[1]}.{name}" for name in paths]
        return "\n".join(
            f"## {name.split('.')[-1]}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in names
        )

    source[0] = re.sub(r"^% modules of (\S+)$", modules_of, source[0], flags=re.MULTILINE)


def leave_out_folders(app, doctree):
    """A link to a folder has a page on a forge only: here its text remains."""
    for link in list(doctree.findall(pending_xref)):
        if link["reftype"] == "myst" and (app.srcdir / link["refdoc"]).parent.joinpath(link["reftarget"]).is_dir():
            link.replace_self(link.children)


def setup(app):
    app.connect("source-read", add_contents)
    app.connect("source-read", add_modules)
    app.connect("doctree-read", leave_out_folders)
