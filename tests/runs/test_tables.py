# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from modeling_gau.runs.tables import aligned, cell_text, markdown


def test_a_table_as_text_and_as_markdown():
    rows = [("Name", "Value"), ("a", "1"), ("b|c", "0.5")]
    assert aligned(rows).splitlines() == ["Name   Value", "a          1", "b|c      0.5"]
    assert markdown(rows).splitlines() == ["| Name | Value |", "| --- | ---: |", "| a | 1 |", "| b\\|c | 0.5 |"]
    assert markdown([("", "b"), ("a", 1)], left=2).splitlines()[1] == "| --- | --- |"


def test_numbers_are_readable():
    numbers = {"12,345": 12345, "8,192": 8192.4, "0.0005": 5e-4, "1e-05": 1e-5, "20.09": 20.0855, "nan": float("nan")}
    assert [cell_text(value) for value in numbers.values()] == list(numbers)
    assert cell_text(True) == "True"
