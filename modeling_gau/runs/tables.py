# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Tables for the terminal, for Markdown and as CSV."""

import csv
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lines of text; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A pipe table of the first row as header and the others, whose numbers are shortened; aligned as above."""
    rule = ["---" if number < left else "---:" for number in range(len(rows[0]))]
    lines = [rule if row is None else [cell_text(value) for value in row] for row in (rows[0], None, *rows[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def literal_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line: without HTML, links, emphasis, headings or rules of its own."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return _MARKUP.sub(r"\\\g<0>", one_line)


# An underscore within a word is no emphasis, a single hyphen no rule.
_MARKUP = re.compile(r"[\\`*\[\]#|~$]|(?<!\w)_|_(?!\w)|-(?=-)|(?<=-)-")


def code_span(text: str) -> str:
    """Text as code within a line of Markdown, whatever backticks it has."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def cell_text(value: object) -> str:
    """A cell of a Markdown table: numbers with four digits or with separators of thousands, text without HTML and
    without pipes, which may be escaped already."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split())).replace("<", "&lt;")
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def write_csv(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows to a file; the columns are the keys of all rows, in the order of their first appearance."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
