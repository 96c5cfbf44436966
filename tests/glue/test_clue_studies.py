# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Studies on CLUE: which data they look for, which scores they report, and the files to hand in."""

import json
import zipfile
from pathlib import Path

import pytest

from modeling_gau.glue.clue_tasks import CLUE_TASKS
from modeling_gau.glue.data import GlueArguments, load_splits
from modeling_gau.glue.report import glue_averages, report_study
from modeling_gau.glue.study import Run, Study, StudyArguments, compared_files
from modeling_gau.glue.submission import SUBMISSION_FORMATS, write_submission, zip_submission
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.run_record import describe_arguments


ONE_DOT_ONE = "CLUE 1.1 classification score (6 tasks, ocnli)"
ONE_DOT_ZERO = "CLUE 1.0 classification score (6 tasks, cmnli)"


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_cards(monkeypatch):
    """The stand-in leaves no model of which a card could tell."""
    monkeypatch.setattr("modeling_gau.glue.report.write_cards", lambda study: None)


def leave_a_run(model_args, glue_args, args) -> dict:
    """Stands in for training, and leaves what a run leaves. The accuracy is the number of the task in tenths."""
    task, path = glue_args.task(), Path(args.output_dir)
    results = {"eval_accuracy": list(CLUE_TASKS).index(task.name) / 10}
    stages = {"trained": args.do_train, "evaluated": args.do_eval, "predicted": args.do_predict}
    record = {"status": "finished", "results": results, **stages}
    path.mkdir(parents=True)
    record |= describe_arguments((model_args, glue_args), args, compared_files(model_args, glue_args))
    (path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    for split in task.test_splits.values():
        (path / f"predictions_{split}.tsv").write_text(f"index\tprediction\n0\t{task.label_names[-1]}\n")
    return results


def make_study(tmp_path, tasks: str, *flags: str, check=lambda *_: None, **options) -> Study:
    args = GlueTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **dict.fromkeys(flags, True))
    return Study(
        ModelArguments(model_name_or_path="encoder"),
        GlueArguments(dataset_name="clue", task_name=tasks),
        args,
        StudyArguments(seeds=[0], **options),
        fine_tune=leave_a_run,
        check=check,
    )


def run_study(tmp_path, tasks: str, *flags: str, **options) -> Study:
    study = make_study(tmp_path, tasks, *flags, **options)
    study.run(report_study)
    return study


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# Data


def test_all_folders_are_looked_for_before_any_is_read(tmp_path):
    write(tmp_path / "data/afqmc_public/train.json", [{}])
    checked = []
    study = make_study(
        tmp_path, "afqmc,tnews", data_dir=str(tmp_path / "data"), check=lambda *arguments: checked.append(arguments)
    )
    with pytest.raises(ValueError, match="has no files of tnews"):
        study.run(report_study)
    assert checked == []


@pytest.mark.parametrize("names", [("test",), ("test1.0",), ("test", "test1.0"), ()])
def test_whatever_test_rows_there_are_make_predictions(tmp_path, names):
    rows = [{"sentence": "news", "label": "104"}] * 2
    for name in ("train", "dev", *names):
        write(tmp_path / f"data/tnews/{name}.json", rows)
    read = []

    def check(model_args, glue_args, args):
        read.append(set(load_splits(glue_args, args, None, None)))

    options = {"data_dir": str(tmp_path / "data"), "check": check}
    study = run_study(tmp_path, "tnews", **options)
    assert read == [{"train", "validation", *names}]
    assert json.loads((study.done[0].output_dir / "run.json").read_text())["predicted"] == bool(names)
    asked = make_study(tmp_path / "asked", "tnews", "do_train", "do_predict", **options)
    if names:
        asked.run(report_study)
        assert read[1] == {"train", *names}
    else:
        with pytest.raises(ValueError, match=r"--do_predict needs the split test, .*Give --test_file \(in --data_dir"):
            asked.run(report_study)


# Scores


STAGES = ("do_train", "do_eval", "do_predict")


def test_each_version_of_clue_counts_six_tasks(tmp_path, capsys):
    study = run_study(tmp_path, "all", *STAGES)
    assert glue_averages(study.chosen) == {
        ONE_DOT_ONE: pytest.approx([(0 + 1 + 2 + 4 + 5 + 6) / 60]),
        ONE_DOT_ZERO: pytest.approx([(0 + 1 + 2 + 3 + 5 + 6) / 60]),
    }
    report = (tmp_path / "out/clue_report.md").read_text(encoding="utf-8")
    assert report.startswith("# CLUE results\n") and "GLUE" not in report and "Without" not in report
    assert f"| {ONE_DOT_ONE} | score | 30.00 |" in report and f"| {ONE_DOT_ZERO} | score | 28.33 |" in report
    assert set(json.loads((tmp_path / "out/clue_results.json").read_text())["averages"]) == {ONE_DOT_ONE, ONE_DOT_ZERO}
    assert (tmp_path / "out/clue_results.csv").is_file()
    with zipfile.ZipFile(tmp_path / "out/clue_submission.zip") as file:
        assert set(file.namelist()) == set(SUBMISSION_FORMATS["clue"].names)
        assert file.read("cluewsc10_predict.json") == b'{"id": 0, "label": "false"}\n'
    printed = capsys.readouterr().out
    assert "cluewsc11_predict.json has 1 rows, the official test set 2,574" in printed
    assert "cluewsc10_predict.json has 1 rows, the official test set 290" in printed
    # One folder may hold studies of both benchmarks.
    assert not (tmp_path / "out/submission").exists() and not (tmp_path / "out/submission.zip").exists()


@pytest.mark.parametrize(
    "left_out, titles",
    [
        (["cmnli"], [ONE_DOT_ONE]),
        (["ocnli"], [ONE_DOT_ZERO]),
        (["csl"], ["mean of 6 tasks, not the CLUE classification score"]),
        (["cmnli", "ocnli"], ["mean of 5 tasks, not the CLUE classification score"]),
    ],
)
def test_a_score_needs_all_that_it_counts(tmp_path, left_out, titles):
    study = run_study(tmp_path, ",".join(name for name in CLUE_TASKS if name not in left_out), *STAGES)
    assert list(glue_averages(study.chosen)) == titles
    report = (tmp_path / "out/clue_report.md").read_text(encoding="utf-8")
    assert (f"Without {', '.join(left_out)}." in report) == ("mean of" in titles[0])


def test_there_is_no_score_of_clue_where_tasks_are_missing(tmp_path, capsys):
    study = run_study(tmp_path, "tnews,csl", *STAGES)
    assert glue_averages(study.chosen) == {"mean of 2 tasks, not the CLUE classification score": pytest.approx([0.3])}
    printed = capsys.readouterr().out
    assert "Without afqmc, iflytek, cmnli, ocnli, cluewsc2020." in printed
    assert "submission.zip lacks" not in printed  # CLUE takes the tasks that there are
    assert glue_averages({"csl": [Run(CLUE_TASKS["csl"], (), 0, tmp_path)]}) == {} == glue_averages({})


# Submission


def test_every_test_set_has_its_file():
    assert SUBMISSION_FORMATS["clue"].files == {
        "afqmc": {"test": ("afqmc_predict.json", 3861)},
        "tnews": {"test": ("tnews11_predict.json", 10_000), "test1.0": ("tnews10_predict.json", 10_000)},
        "iflytek": {"test": ("iflytek_predict.json", 2600)},
        "cmnli": {"test": ("cmnli_predict.json", 13_880)},
        "ocnli": {"test": ("ocnli_50k_predict.json", 3000)},
        "csl": {"test": ("csl_predict.json", 3000)},
        "cluewsc2020": {"test": ("cluewsc11_predict.json", 2574), "test1.0": ("cluewsc10_predict.json", 290)},
    }
    assert {name: set(splits) for name, splits in SUBMISSION_FORMATS["clue"].files.items()} == {
        name: set(task.test_splits.values()) for name, task in CLUE_TASKS.items()
    }


def test_a_submission_has_a_line_for_every_test_row(tmp_path):
    folder = tmp_path / "submission"
    path, problem = write_submission(folder, CLUE_TASKS["csl"], "test", ["1", "0"] * 1500)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert (path.name, problem, len(lines)) == ("csl_predict.json", "", 3000)
    assert lines[:2] == ['{"id": 0, "label": "1"}', '{"id": 1, "label": "0"}']
    path, problem = write_submission(folder, CLUE_TASKS["tnews"], "test", ["106"])
    assert path.read_text(encoding="utf-8") == '{"id": 0, "label": "106"}\n'
    assert problem == "tnews11_predict.json has 1 rows, the official test set 10,000"
    (folder / "afqmc_predict.json").write_text("of an earlier submission")
    archive, missing = zip_submission(folder, ["csl_predict.json"], "clue")
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["csl_predict.json"]
    assert missing == [] and not (folder / "afqmc_predict.json").exists()
