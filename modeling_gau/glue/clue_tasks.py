# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What each classification task of CLUE is (Xu et al. 2020, arXiv:2004.05986), and its rows as texts.

The columns are those of the Hub's `clue/clue`, which are those of the official files as well. Two tasks have more than
text in them: `csl` lists keywords, and `cluewsc2020` says where in its text a noun and a pronoun stand.
"""

from collections.abc import Mapping, Sequence

from ..text.files import shorten
from .tasks import SENTENCE, SENTENCES, GlueTask


KEYWORD_SEPARATOR = "；"
# What stands before and behind each span of cluewsc2020, as in the baselines of CLUE.
SPAN_MARKS: Mapping[str, tuple[str, str]] = {"span1": ("_", "_"), "span2": ("[", "]")}
# The test rows of CLUE 1.0, where 1.1 has others: prefix of the reported metrics -> split.
_TWO_TEST_SETS: Mapping[str, str] = {"test": "test", "test_1_0": "test1.0"}


def keywords_and_abstract(row: Mapping[str, object]) -> dict[str, object]:
    """A row of csl as a pair: its keywords, with `KEYWORD_SEPARATOR` in between, and the abstract.

    Raises:
        ValueError: `keyword` is no list of texts.
    """
    keywords = row["keyword"]
    if not isinstance(keywords, list) or not all(isinstance(keyword, str) for keyword in keywords):
        raise ValueError(f"'keyword' must be a list of texts, got {shorten(keywords)}.")
    return {"keyword": KEYWORD_SEPARATOR.join(keywords), "abst": row["abst"]}


def text_with_marked_spans(row: Mapping[str, object]) -> dict[str, str]:
    """A row of cluewsc2020 as a text in which the noun is `_marked_` and the pronoun `[marked]`.

    Raises:
        ValueError: `text` or `target` is not what it should be, or a span is not where its index says (counted from 0
            in characters).
    """
    text, target = row["text"], row["target"]
    if not isinstance(text, str):
        raise ValueError(f"'text' must be text, got {shorten(text)}.")
    if not isinstance(target, Mapping):
        raise ValueError(f"'target' must be an object with the spans of a noun and a pronoun, got {shorten(target)}.")
    return {"text": _marked(text, [(*_span(text, target, name), *marks) for name, marks in SPAN_MARKS.items()])}


def _span(text: str, target: Mapping[str, object], name: str) -> tuple[int, int]:
    """Where a span begins and ends."""
    span, start = target.get(f"{name}_text"), target.get(f"{name}_index")
    if not isinstance(span, str) or not span:
        raise ValueError(f"'{name}_text' of 'target' must be text, got {shorten(span)}.")
    if type(start) is not int or start < 0:
        raise ValueError(f"'{name}_index' of 'target' must be a number from 0, got {shorten(start)}.")
    found = text[start : start + len(span)]
    if found != span:
        where = [str(at) for at in range(len(text)) if text.startswith(span, at)]
        hint = f"it is there at {', '.join(where)}" if where else "it is nowhere in the text"
        raise ValueError(
            f"'{name}_index' {start} does not point at '{name}_text' {span!r}: there is {found!r} ({hint}). Correct "
            "or remove the row."
        )
    return start, start + len(span)


def _marked(text: str, spans: Sequence[tuple[int, int, str, str]]) -> str:
    """Puts marks around spans (start, end, mark before, mark behind), also where one lies within the other."""
    outer_first = sorted(spans, key=lambda span: span[0] - span[1])
    pieces = []
    for place in range(len(text) + 1):
        pieces += [behind for _, end, _, behind in reversed(outer_first) if end == place]
        pieces += [before for start, _, before, _ in outer_first if start == place]
        pieces.append(text[place : place + 1])
    return "".join(pieces)


def _task(name: str, text_columns: tuple[str, ...], label_names: Sequence[str], **more: object) -> GlueTask:
    return GlueTask(name, text_columns, tuple(label_names), "clue", benchmark="clue", **more)


_NO_OR_YES, _NLI = ("0", "1"), ("neutral", "entailment", "contradiction")
_NEWS = "100 101 102 103 104 106 107 108 109 110 112 113 114 115 116".split()  # there is no 105 and no 111

CLUE_TASKS: Mapping[str, GlueTask] = {
    task.name: task
    for task in (
        _task("afqmc", SENTENCES, _NO_OR_YES),
        _task("tnews", SENTENCE, _NEWS, test_splits=_TWO_TEST_SETS),
        _task("iflytek", SENTENCE, [str(number) for number in range(119)]),
        # In these two, a label "-" says that the annotators did not agree.
        _task("cmnli", SENTENCES, _NLI, no_label="-"),
        _task("ocnli", SENTENCES, _NLI, no_label="-"),
        _task(
            "csl",
            ("keyword", "abst"),
            _NO_OR_YES,
            prepare=keywords_and_abstract,
            input_format=f"An input is a pair: first the keywords with `{KEYWORD_SEPARATOR}` in between, then the "
            "abstract.",
            example=("桥梁；裂缝；图像识别", "本文根据无人机拍摄的照片识别桥梁表面的裂缝"),
        ),
        _task(
            "cluewsc2020",
            ("text",),
            ("true", "false"),
            test_splits=_TWO_TEST_SETS,
            source_columns=("text", "target"),
            prepare=text_with_marked_spans,
            input_format="An input is a text in which the noun is marked as `_noun_` and the pronoun as `[pronoun]`.",
            example="小李把_雨伞_忘在车上了，回去的时候[它]还在座位下面",
        ),
    )
}
