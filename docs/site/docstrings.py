# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Docstrings in the style of Hugging Face (Markdown, with the sections of Google) for Sphinx, which has its own."""

import re
from pathlib import Path

from docutils.utils import new_document
from myst_parser.mdit_to_docutils.sphinx_ import SphinxRenderer
from myst_parser.parsers.mdit import create_md_parser
from sphinx.util.docutils import SphinxDirective


SECTION = re.compile(r"(Args|Arguments|Parameters|Attributes|Returns|Raises|Yields|Examples?|Notes?):\s*$")
ITEM = re.compile(r"    (\w[\w.*]*(?:, \w+)*)( \(.*?\))?:(?: (.*))?$")
NAME = re.compile(r"\[`~?([\w.]+)`\](?!\()")
MODULES = sorted((Path(__file__).parents[2] / "modeling_gau").glob("**/*.py"))
OURS = {
    name for path in MODULES for name in re.findall(r"^(?:class|def) (\w+)", path.read_text("utf-8"), re.MULTILINE)
}


def as_markdown(lines: list[str]) -> list[str]:
    """Makes `Args:` and its kind headings over lists, and names in brackets references to what is documented here."""
    markdown, section = [], ""
    for line in lines:
        if line and not line.startswith(" "):
            found = SECTION.match(line)
            section = found[1] if found else ""
            line = f"**{section}**\n" if found else line
        elif section in ("Args", "Arguments", "Parameters", "Attributes", "Raises"):
            line = ITEM.sub(lambda item: f"- **{item[1]}**{item[2] or ''}: {item[3] or ''}", line)
            line = line if line.startswith("- ") else line[4:]
        elif section:
            line = line[4:]
        markdown += linked(line).split("\n")
    return [line for line in markdown if line.strip() not in ("<Tip>", "</Tip>")]


def linked(line: str) -> str:
    line = line.replace("](../glossary#", "](https://huggingface.co/docs/transformers/glossary#")
    return NAME.sub(lambda name: f"{{py:obj}}`.{name[1]}`" if name[1] in OURS else f"`{name[1]}`", line)


class MarkdownDocstring(SphinxDirective):
    """Renders its content as the pages of the site are, but without HTML: a docstring's `<` is one."""

    has_content = True

    def run(self) -> list:
        config = self.env.myst_config.copy(disable_syntax=["html_inline", "html_block"])
        document = new_document(self.state.document["source"], self.state.document.settings)
        parser = create_md_parser(config, SphinxRenderer)
        parser.options["document"] = document
        parser.render("\n".join(self.content))
        return document.children


def render_markdown(app, what, name, obj, options, lines):
    if any(lines):
        lines[:] = [".. markdown-docstring::", "", *(f"    {line}" for line in as_markdown(lines))]


def setup(app) -> None:
    app.add_directive("markdown-docstring", MarkdownDocstring)
    app.connect("autodoc-process-docstring", render_markdown)
