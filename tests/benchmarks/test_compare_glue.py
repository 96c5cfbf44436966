# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import json
import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import compare_glue


def results(**metrics):
    return {"seeds": [0, 1], "metrics": {name: {"values": list(values)} for name, values in metrics.items()}}


def test_baselines_stand_beside_the_arms(tmp_path):
    """Also of a regression, where a constant has no correlation; a task without data keeps its row."""
    texts = ["a good film", "a bad film", "good fun", "bad luck", "good"]
    rows = {
        "sst2": [{"sentence": text, "label": int("good" in text)} for text in texts],
        "stsb": [{"sentence1": text, "sentence2": "a good film", "label": 5.0 * ("good" in text)} for text in texts],
    }
    for task, content in rows.items():
        (tmp_path / task).mkdir()
        for split in ("train", "validation"):
            lines = "".join(json.dumps(row) + "\n" for row in content)
            (tmp_path / task / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    arms = {
        "GAU": {
            "sst2": results(accuracy=(0.7, 0.9)),
            "stsb": results(pearson=(0.1, 0.3)),
            "rte": results(accuracy=(0.5, 0.5)),
        }
    }
    compare_glue.add_baselines(arms, tmp_path)
    head, *lines = compare_glue.table(arms)
    table = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    assert set(table) == {"sst2", "stsb", "rte"}
    assert table["sst2"]["constant"] == "60.0 ± 0.0"  # three of five rows are good
    assert table["sst2"]["better than constant"] == "+20.0 (2 of 2)"
    assert table["stsb"]["constant"] == "-" and table["stsb"]["bag of words"] != "-"
    assert table["rte"]["bag of words"] == "-"
