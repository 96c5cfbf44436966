# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from modeling_gau.runs.tables import aligned, cell_text, code_span, literal_text, markdown


def test_a_table_as_text_and_as_markdown():
    rows = [("Name", "Value"), ("a", "1"), ("b|c", "0.5")]
    assert aligned(rows).splitlines() == ["Name   Value", "a          1", "b|c      0.5"]
    assert markdown(rows).splitlines() == ["| Name | Value |", "| --- | ---: |", "| a | 1 |", "| b\\|c | 0.5 |"]
    assert markdown([("", "b"), ("a", 1)], left=2).splitlines()[1] == "| --- | --- |"


def test_numbers_are_readable():
    numbers = {"12,345": 12345, "8,192": 8192.4, "0.0005": 5e-4, "1e-05": 1e-5, "20.09": 20.0855, "nan": float("nan")}
    assert [cell_text(value) for value in numbers.values()] == list(numbers)
    assert cell_text(True) == "True"


def test_text_of_users_is_no_markup():
    shown = {
        "<script>alert(1)</script>": "&lt;script&gt;alert(1)&lt;/script&gt;",
        "two\n\nlines": "two lines",
        "---": "\\-\\-\\-",
        "# heading": "\\# heading",
        "a | b": "a \\| b",
        "`code` *and* _more_": "\\`code\\` \\*and\\* \\_more\\_",
        "[a](b)": "\\[a\\](b)",
        "not_entailment, e-mail, AT&amp;T": "not_entailment, e-mail, AT&amp;amp;T",
    }
    assert {text: literal_text(text) for text in shown} == shown
    assert cell_text("<b>a|b\n") == "&lt;b>a\\|b"
    assert cell_text(literal_text("a|b")) == "a\\|b"


def test_code_has_a_longer_fence_than_what_is_in_it():
    assert [code_span(text) for text in ("a.csv", "a`b\n.csv", "`a``")] == ["`a.csv`", "``a`b .csv``", "``` `a`` ```"]
