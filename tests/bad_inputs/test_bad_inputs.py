# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""300 bad inputs end as was written down before they were run; see `harness.py`."""

import csv
from pathlib import Path

import pytest
from harness import DISPUTED, fault, make_places, read_cases, run_case


CASES = {case["id"]: case for case in read_cases()}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    return make_places(tmp_path_factory.mktemp("places"))


def test_there_are_300_in_equal_parts():
    sizes = [
        sum(case["area"] == area for case in CASES.values()) for area in {case["area"] for case in CASES.values()}
    ]
    assert (len(CASES), sorted(sizes)) == (300, [37] * 4 + [38] * 4)


def test_the_results_are_those_of_these_cases():
    with (Path(__file__).parent / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(CASES)
    assert {row["id"] for row in rows if row["as_expected"] != "yes"} == set(DISPUTED)


@pytest.mark.parametrize("name", [name for name in CASES if name not in DISPUTED])
def test_bad_input(name, places, tmp_path):
    assert fault(CASES[name], run_case(CASES[name], places, tmp_path / "here")) == ""


@pytest.mark.parametrize("name", DISPUTED)
def test_disputed_input_works(name, places, tmp_path):
    assert run_case(CASES[name], places, tmp_path / "here")["outcome"] == "works"
