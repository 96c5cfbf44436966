# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The plan of a study, which runs it repeats, its tables and its submissions.

A stand-in replaces the runs: it writes the record and files of a run with a score that the test knows.
`test_run_glue.py` tests real runs.
"""

import csv
import json
import math
import statistics
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from modeling_gau.glue.arguments import GlueArguments, task_files
from modeling_gau.glue.data import load_splits
from modeling_gau.glue.report import (
    SUBMISSION_FORMATS,
    glue_averages,
    report_study,
    submitted_value,
    summarize,
    summary_rows,
    write_submission,
    zip_submission,
)
from modeling_gau.glue.study import (
    Run,
    Study,
    StudyArguments,
    best_run,
    compared_files,
    grid_points,
    order_tasks,
    run_score,
)
from modeling_gau.glue.tasks import CLUE_TASKS, GLUE_TASKS
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.run_record import describe_arguments


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    """The stand-in leaves no model to describe in a card, and none to free, which takes half a second each time."""
    monkeypatch.setattr("modeling_gau.glue.report.write_cards", lambda study: None)
    monkeypatch.setattr("modeling_gau.glue.study.gc", SimpleNamespace(collect=lambda: None))


# The plan


def test_a_grid_is_all_values_with_all():
    points = grid_points(["learning_rate=2e-5,3e-5", "per_device_train_batch_size=16", "num_train_epochs=3,5"])
    assert points == [
        (("learning_rate", rate), ("per_device_train_batch_size", 16), ("num_train_epochs", epochs))
        for rate in (2e-5, 3e-5)
        for epochs in (3.0, 5.0)
    ]
    assert grid_points(None) == [()]


@pytest.mark.parametrize(
    "grid",
    ["learning_rate", "learning_rate=", "learnig_rate=1e-5", "seed=1,2", "early_stopping_patience=1", "bf16=1,0"],
)
def test_a_grid_of_other_things(grid):
    with pytest.raises(ValueError, match=f"--grid {grid}: give names, each once"):
        grid_points([grid])


@pytest.mark.parametrize(
    "grid, message",
    [
        ("num_train_epochs=3,many", "could not convert"),
        ("per_device_train_batch_size=16,0", "different finite values at least 1"),
        ("gradient_accumulation_steps=0", "at least 1"),
        ("layerwise_lr_decay=0.9,2", "above 0 and at most 1"),
        ("layerwise_lr_decay=0", "above 0 and at most 1"),
        ("learning_rate=2e-5,0.00002", "different finite values above 0"),
        ("learning_rate=0", "above 0"),
        ("learning_rate=inf", "finite values above 0"),
        ("learning_rate=nan", "finite values above 0"),
        ("num_train_epochs=0", "above 0"),
        ("num_train_epochs=inf", "finite values above 0"),
        ("max_grad_norm=0", "above 0"),
        ("label_smoothing_factor=1", "from 0 to below 1"),
        ("adam_beta2=0", "between 0 and 1"),
        ("adam_beta2=1", "between 0 and 1"),
        ("warmup_steps=-1", "at least 0"),
        ("weight_decay=inf", "finite values at least 0"),
    ],
)
def test_a_grid_of_values_that_make_no_sense(grid, message):
    with pytest.raises(ValueError, match=f"--grid {grid}: .*{message}"):
        grid_points([grid])


def test_a_name_is_given_once_in_a_grid():
    with pytest.raises(ValueError, match="--grid learning_rate=1: give names, each once"):
        grid_points(["learning_rate=2", "learning_rate=1"])


def test_tasks_come_after_what_they_need():
    names = ["ax", "rte", "cola", "mnli", "mrpc"]
    assert [task.name for task in order_tasks(names, None)] == ["rte", "cola", "mnli", "mrpc", "ax"]
    assert [task.name for task in order_tasks(names, "auto")] == ["cola", "mnli", "ax", "rte", "mrpc"]
    with pytest.raises(ValueError, match="A model of mnli is missing for rte"):
        order_tasks(["cola", "rte"], "auto")
    with pytest.raises(ValueError, match="A model of mnli is missing for ax"):
        order_tasks(["ax"], None)
    assert [task.name for task in order_tasks(["ax", "rte"], "a_model")] == ["ax", "rte"]
    with pytest.raises(ValueError, match="--mnli_checkpoint serves rte, mrpc, stsb and ax; --task_name has none"):
        order_tasks(["cola"], "a_model")


def test_files_are_found_by_their_splits(tmp_path):
    for name in ("mnli/train.jsonl", "mnli/validation_matched.csv", "mnli/test_mismatched.tsv", "rte/dev.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    mnli = task_files(str(tmp_path), GLUE_TASKS["mnli"])
    assert mnli == {
        "train_file": str(tmp_path / "mnli/train.jsonl"),
        "validation_file": str(tmp_path / "mnli/validation_matched.csv"),
        "test_mismatched_file": str(tmp_path / "mnli/test_mismatched.tsv"),
    }
    assert task_files(str(tmp_path), GLUE_TASKS["rte"]) == {"validation_file": str(tmp_path / "rte/dev.parquet")}
    with pytest.raises(ValueError, match="has no files of cola"):
        task_files(str(tmp_path), GLUE_TASKS["cola"])
    (tmp_path / "rte/validation.csv").touch()
    with pytest.raises(ValueError, match="two files for validation of rte"):
        task_files(str(tmp_path), GLUE_TASKS["rte"])


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_that_are_none(seeds):
    with pytest.raises(ValueError, match="--seeds must be one or more different numbers"):
        StudyArguments(seeds=seeds)


# Running


class Runs:
    """Stands in for training: notes what it was asked for, and leaves what a run leaves."""

    def __init__(self, scores=lambda task, args: 0.5, fails_at: str | None = None):
        self.scores, self.fails_at, self.made, self.configs = scores, fails_at, [], []

    def __call__(self, model_args, glue_args, args):
        self.made.append((args.run_name, model_args.model_name_or_path, args.do_train, args.do_predict))
        self.configs.append(model_args.config_name)
        if args.run_name == self.fails_at:
            raise KeyboardInterrupt
        task = glue_args.task()
        path = Path(args.output_dir)
        path.mkdir(parents=True, exist_ok=True)
        in_place = model_args.model_name_or_path == args.output_dir
        record = json.loads((path / "run.json").read_text()) if in_place else {}
        results = record.get("results", {})
        if args.do_eval:
            score = self.scores(task.name, args)
            results |= {f"{prefix}_{name}": score for prefix in task.evaluation_splits for name in task.metric_names}
        if not in_place:
            record |= describe_arguments((model_args, glue_args), args, compared_files(model_args, glue_args))
        made = {"trained": args.do_train, "evaluated": args.do_eval, "predicted": args.do_predict}
        record |= {"status": "finished", "results": results}
        record |= {stage: wanted or record.get(stage, False) for stage, wanted in made.items()}
        (path / "run.json").write_text(json.dumps(record))
        (path / "model.safetensors").write_bytes(b"weights")
        for split in task.test_splits.values() if args.do_predict else ():
            label = "4.2" if task.is_regression else task.label_names[-1]
            (path / f"predictions_{split}.tsv").write_text(f"index\tprediction\n0\t{label}\n")
        return results


def make_study(
    tmp_path,
    runs: Runs,
    tasks: str,
    flags=("do_train", "do_eval"),
    encoder="encoder",
    config=None,
    check=lambda *_: None,
    **options,
) -> Study:
    training = {
        name: options.pop(name)
        for name in list(options)
        if name not in StudyArguments.__dataclass_fields__ and name not in GlueArguments.__dataclass_fields__
    }
    data = {name: options.pop(name) for name in list(options) if name in GlueArguments.__dataclass_fields__}
    start = {"config_name": config} if config else {"model_name_or_path": str(encoder)}
    args = GlueTrainingArguments(
        output_dir=str(tmp_path / "out"), use_cpu=True, **dict.fromkeys(flags, True), **training
    )
    return Study(
        ModelArguments(**start),
        GlueArguments(task_name=tasks, **data),
        args,
        StudyArguments(**options),
        fine_tune=runs,
        check=check,
    )


def names_made(runs: Runs) -> list[str]:
    return [name for name, *_ in runs.made]


def test_every_task_is_run_with_every_seed(tmp_path):
    runs = Runs()
    chosen = make_study(tmp_path, runs, "cola,rte", seeds=[0, 1]).run(report_study)
    assert names_made(runs) == ["cola-seed-0", "cola-seed-1", "rte-seed-0", "rte-seed-1"]
    assert [run.output_dir for run in chosen["rte"]] == [tmp_path / "out/rte/seed-0", tmp_path / "out/rte/seed-1"]


def test_what_is_finished_is_not_run_again(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        make_study(tmp_path, Runs(fails_at="rte-seed-0"), "cola,rte", seeds=[0, 1]).run(report_study)
    runs = Runs()
    make_study(tmp_path, runs, "cola,rte", seeds=[0, 1]).run(report_study)
    assert names_made(runs) == ["rte-seed-0", "rte-seed-1"]
    assert "[1 of 4] cola-seed-0: finished already" in capsys.readouterr().out
    more = Runs()
    make_study(tmp_path, more, "cola,rte", seeds=[0, 1, 2], logging_steps=7).run(report_study)
    assert names_made(more) == ["cola-seed-2", "rte-seed-2"]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"learning_rate": 1e-3}, r"learning_rate \(5e-05 there, 0.001 here\)"),
        ({"max_seq_length": 64}, r"max_seq_length \(128 there, 64 here\)"),
    ],
)
def test_a_run_that_was_made_with_other_things_is_not_taken_for_this_one(tmp_path, changed, message):
    make_study(tmp_path, Runs(), "cola", seeds=[0]).run(report_study)
    runs = Runs()
    with pytest.raises(ValueError, match=message):
        make_study(tmp_path, runs, "sst2,cola", seeds=[0], **changed).run(report_study)
    assert runs.made == []  # it shows before the first run
    make_study(tmp_path, runs, "cola", seeds=[0], overwrite_output_dir=True, **changed).run(report_study)
    assert names_made(runs) == ["cola-seed-0"]


def test_another_encoder_of_that_name_is_noticed(tmp_path):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.safetensors").write_bytes(b"one")
    make_study(tmp_path, Runs(), "cola", seeds=[0], encoder=encoder).run(report_study)
    (encoder / "model.safetensors").write_bytes(b"two")
    with pytest.raises(ValueError, match="weights of the checkpoint"):
        make_study(tmp_path, Runs(), "cola", seeds=[0], encoder=encoder).run(report_study)


def test_another_number_of_processes_is_noticed(tmp_path):
    make_study(tmp_path, Runs(), "cola", seeds=[0]).run(report_study)
    path = tmp_path / "out/cola/seed-0/run.json"
    record = json.loads(path.read_text())
    record["world_size"] = 4
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"number of processes \(4 there, 1 here\)"):
        make_study(tmp_path, Runs(), "cola", seeds=[0]).run(report_study)


def test_a_record_that_does_not_say_what_it_was_made_with(tmp_path):
    (tmp_path / "out/cola/seed-0").mkdir(parents=True)
    (tmp_path / "out/cola/seed-0/run.json").write_text('{"status": "finished"}')
    with pytest.raises(ValueError, match=r"its run.json does not say"):
        make_study(tmp_path, Runs(), "cola", seeds=[0]).run(report_study)


def test_other_data_are_noticed(tmp_path):
    folder = tmp_path / "data/cola"
    folder.mkdir(parents=True)
    for name in ("train.jsonl", "validation.jsonl"):
        (folder / name).write_text("{}\n")
    options = {"seeds": [0], "data_dir": str(tmp_path / "data")}
    make_study(tmp_path, Runs(), "cola", **options).run(report_study)
    (folder / "train.jsonl").write_text("{}\n{}\n")
    with pytest.raises(ValueError, match="contents of train"):
        make_study(tmp_path, Runs(), "cola", **options).run(report_study)


def test_predictions_may_be_asked_for_later(tmp_path):
    make_study(tmp_path, Runs(), "cola", seeds=[0]).run(report_study)
    runs = Runs()
    make_study(tmp_path, runs, "cola", ("do_train", "do_eval", "do_predict"), seeds=[0]).run(report_study)
    assert runs.made == [("cola-seed-0", str(tmp_path / "out/cola/seed-0"), False, True)]
    assert (tmp_path / "out/submission/CoLA.tsv").read_text() == "index\tprediction\n0\t1\n"


def test_predictions_of_a_new_model_are_those_of_the_model_that_was_trained(tmp_path):
    make_study(tmp_path, Runs(), "cola", seeds=[0], config="gau-tiny").run(report_study)
    runs = Runs()
    stages = ("do_train", "do_eval", "do_predict")
    make_study(tmp_path, runs, "cola", stages, seeds=[0], config="gau-tiny").run(report_study)
    assert runs.made == [("cola-seed-0", str(tmp_path / "out/cola/seed-0"), False, True)]
    assert runs.configs == [None]


def test_an_evaluation_is_no_training(tmp_path):
    make_study(tmp_path, Runs(lambda *_: 0.1), "cola", ("do_eval",), seeds=[0]).run(report_study)
    runs = Runs(lambda *_: 0.9)
    chosen = make_study(tmp_path, runs, "cola", seeds=[0]).run(report_study)
    assert [made[2] for made in runs.made] == [True]
    assert run_score(chosen["cola"][0]) == 0.9


def test_evaluations_may_be_asked_for_later(tmp_path):
    make_study(tmp_path, Runs(), "cola", ("do_train",), seeds=[0]).run(report_study)
    runs = Runs(lambda *_: 0.7)
    study = make_study(tmp_path, runs, "cola", seeds=[0, 1])
    study.run(report_study)
    assert [made[2] for made in runs.made] == [False, True]
    assert study.means() == {"cola_eval_matthews_correlation": pytest.approx(0.7)}


def test_a_submission_has_nothing_of_the_one_before(tmp_path):
    stages = ("do_train", "do_eval", "do_predict")
    make_study(tmp_path, Runs(), "cola,rte", stages, seeds=[0]).run(report_study)
    options = {"seeds": [0], "overwrite_output_dir": True, "learning_rate": 1e-3}
    make_study(tmp_path, Runs(), "rte", stages, **options).run(report_study)
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as file:
        assert file.namelist() == ["RTE.tsv"]


def test_the_best_point_is_that_of_the_best_mean(tmp_path):
    scores = {(1e-3, 0): 0.9, (1e-3, 1): 0.1, (1e-4, 0): 0.6, (1e-4, 1): 0.7, (1e-5, 0): math.nan, (1e-5, 1): 1.0}
    runs = Runs(lambda task, args: scores[args.learning_rate, args.seed])
    study = make_study(tmp_path, runs, "sst2", seeds=[0, 1], grid=["learning_rate=1e-3,1e-4,1e-5"])
    chosen = study.run(report_study)
    assert chosen["sst2"][0].point == (("learning_rate", 1e-4),)
    assert len(runs.made) == 6
    with (tmp_path / "out/glue_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and sum(int(row["chosen"]) for row in rows) == 2
    assert best_run(chosen["sst2"]).seed == 1
    again = Runs()
    make_study(tmp_path, again, "sst2", seeds=[0, 1], grid=["learning_rate=1e-3,1e-4,1e-5"]).run(report_study)
    assert again.made == []


def test_a_grid_needs_evaluations(tmp_path):
    with pytest.raises(ValueError, match="--grid compares runs by their evaluation"):
        make_study(tmp_path, Runs(), "sst2", ("do_train",), grid=["learning_rate=1e-3,1e-4"])


def test_small_tasks_begin_with_the_model_of_mnli_of_their_seed(tmp_path):
    scores = {1e-3: 0.5, 1e-4: 0.6}
    runs = Runs(lambda task, args: scores[args.learning_rate])
    options = {"seeds": [0, 1], "grid": ["learning_rate=1e-3,1e-4"], "mnli_checkpoint": "auto"}
    make_study(tmp_path, runs, "rte,cola,ax,mnli", **options).run(report_study)
    starts = {name: start for name, start, *_ in runs.made}
    mnli = tmp_path / "out/mnli/learning_rate-0.0001"
    assert starts["rte-learning_rate-0.001-seed-1"] == str(mnli / "seed-1")
    assert starts["ax-learning_rate-0.0001-seed-0"] == str(mnli / "seed-0")
    assert starts["cola-learning_rate-0.001-seed-1"] == "encoder"
    assert [one[2:] for one in runs.made if one[0].startswith("ax")] == [(False, True), (False, True)]
    again = Runs()
    make_study(tmp_path, again, "rte,cola,ax,mnli", **options).run(report_study)
    assert again.made == []


def test_a_named_model_of_mnli(tmp_path):
    runs = Runs()
    make_study(tmp_path, runs, "rte,cola", seeds=[0], mnli_checkpoint="elsewhere").run(report_study)
    assert {name: start for name, start, *_ in runs.made} == {"rte-seed-0": "elsewhere", "cola-seed-0": "encoder"}


def test_more_seeds_may_change_the_best_model_of_mnli(tmp_path):
    scores = {(1e-3, 0): 0.6, (1e-4, 0): 0.5, (1e-3, 1): 0.1, (1e-4, 1): 0.9}
    options = {"grid": ["learning_rate=1e-3,1e-4"], "mnli_checkpoint": "auto"}
    for seeds, best in (([0], "0.001"), ([0, 1], "0.0001")):
        runs = Runs(lambda task, args: scores[args.learning_rate, args.seed])
        make_study(tmp_path, runs, "mnli,ax,rte", seeds=seeds, **options).run(report_study)
        starts = {name: start for name, start, *_ in runs.made}
        mnli = tmp_path / f"out/mnli/learning_rate-{best}"
        assert starts["rte-learning_rate-0.001-seed-0"] == starts[f"ax-learning_rate-{best}-seed-0"]
        assert starts["rte-learning_rate-0.001-seed-0"] == str(mnli / "seed-0")


# Tables


def test_means_deviations_and_averages(tmp_path, capsys):
    def scores(task, args):
        return {"cola": 0.2, "mrpc": 0.8, "mnli": 0.5}[task] + 0.1 * args.seed

    study = make_study(tmp_path, Runs(scores), "cola,mrpc,mnli", seeds=[0, 1, 2])
    study.run(lambda study: None)
    summary = summarize(study)
    cola = summary["tasks"]["cola"]["metrics"]["matthews_correlation"]
    assert cola["values"] == pytest.approx([0.2, 0.3, 0.4])
    assert cola["mean"] == pytest.approx(0.3)
    assert cola["standard_deviation"] == pytest.approx(statistics.stdev([0.2, 0.3, 0.4]))
    assert set(summary["tasks"]["mnli"]["metrics"]) == {"accuracy", "mismatched accuracy"}
    (title,) = summary["averages"]
    assert title == "mean of 3 tasks, not the GLUE average"
    assert summary["averages"][title]["values"] == pytest.approx([0.5, 0.6, 0.7])
    assert study.means()["mrpc_eval_f1"] == pytest.approx(0.9)

    report_study(study)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cola", "matthews", "correlation", "30.00", "10.00", "20.00", "30.00", "40.00"] in table
    assert "| cola | matthews correlation | 30.00 | 10.00 | 20.00 | 30.00 | 40.00 |" in (
        tmp_path / "out/glue_report.md"
    ).read_text(encoding="utf-8")


def test_the_glue_average_counts_nine_tasks_and_not_the_diagnostic_set(tmp_path):
    scores = {name: index / 10 for index, name in enumerate(GLUE_TASKS)}
    study = make_study(tmp_path, Runs(lambda task, args: scores[task]), "all", seeds=[3])
    study.run(lambda study: None)
    counted = [score for name, score in scores.items() if name != "ax"]
    averages = glue_averages(study.chosen)
    assert averages["GLUE average (9 tasks)"] == pytest.approx([statistics.fmean(counted)])
    assert averages["GLUE average without wnli (8 tasks)"] == pytest.approx(
        [statistics.fmean([score for name, score in scores.items() if name not in ("ax", "wnli")])]
    )
    eight = {name: runs for name, runs in study.chosen.items() if name != "wnli"}
    assert list(glue_averages(eight)) == ["mean of 8 tasks, not the GLUE average"]
    rows = summary_rows(summarize(study))
    assert rows[0] == ["task", "metric", "mean", "std", "seed 3"]
    assert all(row[3] == "-" for row in rows[1:])  # no deviation of one seed


def test_the_score_of_a_task(tmp_path):
    def score_of(name: str, results: dict) -> float:
        (tmp_path / "run.json").write_text(json.dumps({"results": results}))
        return run_score(Run(GLUE_TASKS[name], (), 0, tmp_path))

    assert score_of("mnli", {"eval_accuracy": 0.5, "eval_mm_accuracy": 0.7}) == pytest.approx(0.6)
    assert score_of("mrpc", {"eval_accuracy": 0.5, "eval_f1": 0.7, "eval_combined_score": 0.6}) == 0.6
    assert math.isnan(score_of("stsb", {"eval_combined_score": "NaN"}))
    assert math.isnan(score_of("cola", {}))


def test_scores_that_are_not_defined_leave_a_mark_and_no_error(tmp_path):
    study = make_study(tmp_path, Runs(lambda task, args: math.nan if args.seed else 0.5), "stsb", seeds=[0, 1])
    study.run(report_study)
    rows = summary_rows(summarize(study))
    assert rows[1] == ["stsb", "pearson", "-", "-", "50.00", "-"]


# Submission


def test_every_file_that_the_benchmark_takes():
    assert set(SUBMISSION_FORMATS["glue"].files) == set(GLUE_TASKS)
    for name, splits in SUBMISSION_FORMATS["glue"].files.items():
        assert set(splits) == set(GLUE_TASKS[name].test_splits.values())
    assert len({file for splits in SUBMISSION_FORMATS["glue"].files.values() for file, _ in splits.values()}) == 11


@pytest.mark.parametrize(
    "task, prediction, value",
    [
        ("cola", "acceptable", "1"),
        ("mrpc", "not_equivalent", "0"),
        ("wnli", "entailment", "1"),
        ("rte", "not_entailment", "not_entailment"),
        ("mnli", "neutral", "neutral"),
        ("ax", "contradiction", "contradiction"),
        ("stsb", "-0.3", "0.000"),
        ("stsb", "5.25", "5.000"),
        ("stsb", "2.34567", "2.346"),
    ],
)
def test_predictions_in_the_form_of_the_benchmark(task, prediction, value):
    assert submitted_value(GLUE_TASKS[task], prediction) == value


def test_a_submission(tmp_path):
    path, problem = write_submission(tmp_path / "submission", GLUE_TASKS["rte"], "test", ["entailment"] * 3000)
    assert problem == "" and path.name == "RTE.tsv"
    assert path.read_text().splitlines()[:2] == ["index\tprediction", "0\tentailment"]
    _, problem = write_submission(tmp_path / "submission", GLUE_TASKS["wnli"], "test", ["entailment"] * 3)
    assert problem == "WNLI.tsv has 3 rows, the official test set 146"
    archive, missing = zip_submission(tmp_path / "submission", ["RTE.tsv", "WNLI.tsv"])
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["RTE.tsv", "WNLI.tsv"]
    assert "CoLA.tsv" in missing and "RTE.tsv" not in missing and len(missing) == 9


def test_the_diagnostic_set_is_handed_in_from_the_best_model_of_mnli(tmp_path):
    runs = Runs(lambda task, args: 0.1 * args.seed)
    study = make_study(tmp_path, runs, "mnli,ax", ("do_train", "do_eval", "do_predict"), seeds=[0, 2, 1])
    study.run(lambda study: None)
    for run in study.chosen["ax"]:
        label = "neutral" if run.seed == 2 else "entailment"
        (run.output_dir / "predictions_test.tsv").write_text(f"index\tprediction\n0\t{label}\n")
    report_study(study)
    assert (tmp_path / "out/submission/AX.tsv").read_text().splitlines()[1] == "0\tneutral"


# CLUE


ONE_DOT_ONE = "CLUE 1.1 classification score (6 tasks, ocnli)"
ONE_DOT_ZERO = "CLUE 1.0 classification score (6 tasks, cmnli)"
STAGES = ("do_train", "do_eval", "do_predict")


def clue_study(tmp_path, tasks: str, flags=STAGES, **options) -> Study:
    """Makes all runs; the accuracy is the number of the task in tenths."""
    runs = Runs(lambda task, args: list(CLUE_TASKS).index(task) / 10)
    study = make_study(tmp_path, runs, tasks, flags, dataset_name="clue", seeds=[0], **options)
    study.run(report_study)
    return study


def test_all_folders_are_looked_for_before_any_is_read(tmp_path):
    (tmp_path / "data/afqmc_public").mkdir(parents=True)
    (tmp_path / "data/afqmc_public/train.json").write_text("{}\n")
    checked = []
    options = {"data_dir": str(tmp_path / "data"), "check": lambda *arguments: checked.append(arguments)}
    with pytest.raises(ValueError, match="has no files of tnews"):
        clue_study(tmp_path, "afqmc,tnews", **options)
    assert checked == []


def test_each_version_of_clue_counts_six_tasks(tmp_path, capsys):
    study = clue_study(tmp_path, "all")
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
        assert file.read("cluewsc11_predict.json") == b'{"id": 0, "label": "false"}\n'
    printed = capsys.readouterr().out
    assert "cluewsc11_predict.json has 1 rows, the official test set 2,574" in printed
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
    study = clue_study(tmp_path, ",".join(name for name in CLUE_TASKS if name not in left_out))
    assert list(glue_averages(study.chosen)) == titles
    report = (tmp_path / "out/clue_report.md").read_text(encoding="utf-8")
    assert (f"Without {', '.join(left_out)}." in report) == ("mean of" in titles[0])


def test_there_is_no_score_of_clue_where_tasks_are_missing(tmp_path, capsys):
    study = clue_study(tmp_path, "tnews,csl")
    assert glue_averages(study.chosen) == {"mean of 2 tasks, not the CLUE classification score": pytest.approx([0.3])}
    printed = capsys.readouterr().out
    assert "Without afqmc, iflytek, cmnli, ocnli, cluewsc2020." in printed
    assert "submission.zip lacks" not in printed  # CLUE takes the tasks that there are
    assert glue_averages({"csl": [Run(CLUE_TASKS["csl"], (), 0, tmp_path)]}) == {} == glue_averages({})


def test_every_test_set_has_its_file():
    assert SUBMISSION_FORMATS["clue"].files == {
        "afqmc": {"test": ("afqmc_predict.json", 3861)},
        "tnews": {"test": ("tnews11_predict.json", 10_000)},
        "iflytek": {"test": ("iflytek_predict.json", 2600)},
        "cmnli": {"test": ("cmnli_predict.json", 13_880)},
        "ocnli": {"test": ("ocnli_50k_predict.json", 3000)},
        "csl": {"test": ("csl_predict.json", 3000)},
        "cluewsc2020": {"test": ("cluewsc11_predict.json", 2574)},
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


@pytest.mark.parametrize("has_test", [True, False])
def test_test_rows_are_predicted_by_default_if_there_are_any(tmp_path, private_cache, has_test):
    folder = tmp_path / "data/tnews"
    folder.mkdir(parents=True)
    for name in ("train", "dev", *(["test"] if has_test else [])):
        (folder / f"{name}.json").write_text('{"sentence": "news", "label": "104"}\n')
    read = []
    options = {"data_dir": str(tmp_path / "data")}
    options["check"] = lambda model_args, glue_args, args: read.append(set(load_splits(glue_args, args, None, None)))
    study = clue_study(tmp_path, "tnews", (), **options)
    assert read == [{"train", "validation"} | ({"test"} if has_test else set())]
    assert json.loads((study.done[0].output_dir / "run.json").read_text())["predicted"] == has_test
    if not has_test:
        with pytest.raises(
            ValueError, match=r"--do_predict needs the split test, .*Give --test_file \(or .* --data_dir"
        ):
            clue_study(tmp_path / "asked", "tnews", ("do_train", "do_predict"), **options)
