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
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from glue_runs import write

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
from modeling_gau.glue.tasks import BENCHMARKS, CLUE_TASKS, GLUE_TASKS, LOCAL_TASK
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
    "grid, message",
    [
        ("learning_rate", "give names, each once"),
        ("learning_rate=", "give names, each once"),
        ("learnig_rate=1e-5", "give names, each once"),
        ("seed=1,2", "give names, each once"),
        ("early_stopping_patience=1", "give names, each once"),
        ("bf16=1,0", "give names, each once"),
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
def test_a_grid_that_makes_no_sense(grid, message):
    with pytest.raises(ValueError, match=f"--grid {grid}: .*{message}"):
        grid_points([grid])


def test_options_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="--grid learning_rate=1: give names, each once"):
        grid_points(["learning_rate=2", "learning_rate=1"])
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="--seeds must be one or more different numbers"):
            StudyArguments(seeds=seeds)
    with pytest.raises(ValueError, match="--grid compares runs by their evaluation"):
        make_study(tmp_path, "sst2", Runs(), ("do_train",), grid=["learning_rate=1e-3,1e-4"])


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


# Running


class Runs:
    """Stands in for training: notes what it was asked for, and leaves what a run leaves."""

    def __init__(self, scores=lambda task, args: 0.5, fails_at: str | None = None, task=None):
        self.scores, self.fails_at, self.task, self.made, self.configs = scores, fails_at, task, [], []

    def __call__(self, model_args, glue_args, args):
        self.made.append((args.run_name, model_args.model_name_or_path, args.do_train, args.do_predict))
        self.configs.append(model_args.config_name)
        if args.run_name == self.fails_at:
            raise KeyboardInterrupt
        task = self.task or glue_args.task()
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


STAGES = ("do_train", "do_eval", "do_predict")


def make_study(
    tmp_path, tasks: str | None, runs: Runs, flags=("do_train", "do_eval"), check=lambda *_: None, **options
) -> Study:
    """A study of `runs`. The options are fields of any of its arguments."""
    kinds = (StudyArguments, GlueArguments, ModelArguments, GlueTrainingArguments)
    start = {} if "config_name" in options else {"model_name_or_path": "encoder"}
    training = {"output_dir": str(tmp_path / "out"), "use_cpu": True, **dict.fromkeys(flags, True)}
    options = {"task_name": tasks, "seeds": [0]} | start | training | options
    arguments = []
    for kind in kinds:
        names = options.keys() & kind.__dataclass_fields__
        arguments.append(kind(**{name: options.pop(name) for name in names}))
    assert not options
    study, glue, model, training = arguments
    return Study(model, glue, training, study, fine_tune=runs, check=check)


def run_study(tmp_path, tasks: str | None, runs: Runs | None = None, *arguments, **options) -> Study:
    study = make_study(tmp_path, tasks, runs or Runs(), *arguments, **options)
    study.run(report_study)
    return study


def names_made(runs: Runs) -> list[str]:
    return [name for name, *_ in runs.made]


def starts_of(runs: Runs) -> dict[str, str]:
    return {name: start for name, start, *_ in runs.made}


def test_every_task_is_run_with_every_seed(tmp_path):
    study = run_study(tmp_path, "cola,rte", runs := Runs(), seeds=[0, 1])
    assert names_made(runs) == ["cola-seed-0", "cola-seed-1", "rte-seed-0", "rte-seed-1"]
    directories = [run.output_dir for run in study.chosen["rte"]]
    assert directories == [tmp_path / "out/rte/seed-0", tmp_path / "out/rte/seed-1"]


def test_what_is_finished_is_not_run_again(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        run_study(tmp_path, "cola,rte", Runs(fails_at="rte-seed-0"), seeds=[0, 1])
    run_study(tmp_path, "cola,rte", runs := Runs(), seeds=[0, 1])
    assert names_made(runs) == ["rte-seed-0", "rte-seed-1"]
    assert "[1 of 4] cola-seed-0: finished already" in capsys.readouterr().out
    run_study(tmp_path, "cola,rte", more := Runs(), seeds=[0, 1, 2], logging_steps=7)
    assert names_made(more) == ["cola-seed-2", "rte-seed-2"]


def test_a_loss_that_one_task_does_not_have_shows_before_any_data_is_read(tmp_path):
    checked = []
    study = make_study(
        tmp_path, "cola,stsb", Runs(), grid=["label_smoothing_factor=0,0.1"], check=lambda *_: checked.append(1)
    )
    with pytest.raises(ValueError, match=r"--label_smoothing_factor 0\.1 needs one class a row, this is regression"):
        study.run(report_study)
    assert not checked


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"learning_rate": 1e-3}, r"learning_rate \(None there, 0.001 here\)"),
        ({"max_seq_length": 64}, r"max_seq_length \(128 there, 64 here\)"),
    ],
)
def test_a_run_that_was_made_with_other_things_is_not_taken_for_this_one(tmp_path, changed, message):
    run_study(tmp_path, "cola")
    runs = Runs()
    with pytest.raises(ValueError, match=message):
        run_study(tmp_path, "sst2,cola", runs, **changed)
    assert runs.made == []  # it shows before the first run
    run_study(tmp_path, "cola", runs, overwrite_output_dir=True, **changed)
    assert names_made(runs) == ["cola-seed-0"]


def test_other_weights_data_and_processes_are_noticed(tmp_path):
    encoder, data = tmp_path / "encoder/model.safetensors", tmp_path / "data/cola/train.jsonl"
    record = tmp_path / "out/cola/seed-0/run.json"
    for path in (encoder, data, data.with_name("validation.jsonl")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    options = {"model_name_or_path": str(encoder.parent), "data_dir": str(data.parents[1])}
    run_study(tmp_path, "cola", **options)
    processes = json.dumps(json.loads(record.read_text()) | {"world_size": 4})
    for path, content, message in (
        (encoder, "two", "weights of the checkpoint"),
        (data, "{}\n{}\n", "contents of train"),
        (record, processes, r"number of processes \(4 there, 1 here\)"),
        (record, '{"status": "finished"}', r"its run.json does not say"),
    ):
        before = path.read_text()
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            run_study(tmp_path, "cola", **options)
        path.write_text(before)
    run_study(tmp_path, "cola", Runs(fails_at="cola-seed-0"), **options)  # as before: nothing to run


@pytest.mark.parametrize("start", [{}, {"config_name": "gau-tiny"}])
def test_predictions_may_be_asked_for_later(tmp_path, start):
    run_study(tmp_path, "cola", **start)
    run_study(tmp_path, "cola", runs := Runs(), STAGES, **start)
    # Those of the model that was trained.
    assert runs.made == [("cola-seed-0", str(tmp_path / "out/cola/seed-0"), False, True)]
    assert runs.configs == [None]
    assert (tmp_path / "out/submission/CoLA.tsv").read_text() == "index\tprediction\n0\t1\n"


@pytest.mark.parametrize("is_finished", [False, True])
def test_an_interrupted_run_keeps_its_choice_of_the_model(tmp_path, is_finished):
    run_study(tmp_path, "mrpc", Runs(), ("do_train", "do_eval"), metric_for_best_model="f1")
    path = tmp_path / "out/mrpc/seed-0/run.json"
    content = json.loads(path.read_text()) | {"evaluated": False}
    if not is_finished:
        content = {"arguments": content["arguments"], "status": "stopped by SIGTERM"}
    path.write_text(json.dumps(content))
    if is_finished:  # only the evaluation is missing: no model is chosen
        run_study(tmp_path, "mrpc", Runs(), metric_for_best_model="accuracy")
        return
    with pytest.raises(ValueError, match=r"metric_for_best_model \(f1 there, accuracy here\)"):
        run_study(tmp_path, "mrpc", Runs(), metric_for_best_model="accuracy")


def test_an_evaluation_is_no_training(tmp_path):
    run_study(tmp_path, "cola", Runs(lambda *_: 0.1), ("do_eval",))
    study = run_study(tmp_path, "cola", runs := Runs(lambda *_: 0.9), learning_rate=1e-3)
    assert [made[2] for made in runs.made] == [True]
    assert run_score(study.chosen["cola"][0]) == 0.9
    run_study(tmp_path, "cola", again := Runs(), ("do_eval",))  # has no use for a rate
    assert again.made == []


def test_evaluations_may_be_asked_for_later(tmp_path):
    run_study(tmp_path, "cola", Runs(), ("do_train",))
    study = run_study(tmp_path, "cola", runs := Runs(lambda *_: 0.7), seeds=[0, 1])
    assert [made[2] for made in runs.made] == [False, True]
    assert study.means() == {"cola_eval_matthews_correlation": pytest.approx(0.7)}


def test_a_submission_has_nothing_of_the_one_before(tmp_path):
    run_study(tmp_path, "cola,rte", Runs(), STAGES)
    run_study(tmp_path, "rte", Runs(), STAGES, overwrite_output_dir=True, learning_rate=1e-3)
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as file:
        assert file.namelist() == ["RTE.tsv"]


def test_the_best_point_is_that_of_the_best_mean(tmp_path):
    scores = {(1e-3, 0): 0.9, (1e-3, 1): 0.1, (1e-4, 0): 0.6, (1e-4, 1): 0.7, (1e-5, 0): math.nan, (1e-5, 1): 1.0}
    runs = Runs(lambda task, args: scores[args.learning_rate, args.seed])
    options = {"seeds": [0, 1], "grid": ["learning_rate=1e-3,1e-4,1e-5"]}
    chosen = run_study(tmp_path, "sst2", runs, **options).chosen
    assert chosen["sst2"][0].point == (("learning_rate", 1e-4),)
    assert len(runs.made) == 6
    with (tmp_path / "out/glue_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and sum(int(row["chosen"]) for row in rows) == 2
    assert best_run(chosen["sst2"]).seed == 1
    run_study(tmp_path, "sst2", again := Runs(), **options)
    assert again.made == []


def test_files_are_one_task_without_a_name(tmp_path, capsys):
    """Its metric shows in the data only: an earlier run was made with the same all the same."""
    files = {"train_file": write(tmp_path / "a.csv", [{"sentence": "a", "label": "x"}])}
    files |= {"validation_file": files["train_file"]}
    scores = {(1e-3, 0): 0.9, (1e-3, 1): 0.1, (1e-4, 0): 0.6, (1e-4, 1): 0.7}
    options = {
        "seeds": [0, 1],
        "grid": ["learning_rate=1e-3,1e-4"],
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
    }
    options |= {"load_best_model_at_end": True, "check": lambda *_: task, **files}
    task = replace(LOCAL_TASK, label_names=("score",), metric="regression", problem_type="regression")
    runs = Runs(lambda _, args: scores[args.learning_rate, args.seed], task=task)
    study = run_study(tmp_path, None, runs, **options)
    assert names_made(runs)[0] == "out-learning_rate-0.001-seed-0" and len(runs.made) == 4
    record = json.loads((tmp_path / "out/learning_rate-0.0001/seed-1/run.json").read_text())
    assert record["arguments"]["metric_for_best_model"] == task.key_metric
    assert best_run(study.chosen["local"]).output_dir == tmp_path / "out/learning_rate-0.0001/seed-1"
    assert f"Best model on the validation rows: {tmp_path}/out/learning_rate-0.0001/seed-1" in capsys.readouterr().out
    report = (tmp_path / "out/report.md").read_text()
    assert (
        report.startswith("# Results\n")
        and "chosen by the mean on the same rows" in report
        and "Without" not in report
    )
    run_study(tmp_path, None, again := Runs(), **options)
    assert again.made == []
    with pytest.raises(ValueError, match="--data_dir needs --task_name, and excludes --train_file"):
        make_study(tmp_path, None, Runs(), data_dir=str(tmp_path), **files)


def test_small_tasks_begin_with_the_model_of_mnli_of_their_seed(tmp_path):
    scores = {1e-3: 0.5, 1e-4: 0.6}
    runs = Runs(lambda task, args: scores[args.learning_rate])
    options = {"seeds": [0, 1], "grid": ["learning_rate=1e-3,1e-4"], "mnli_checkpoint": "auto"}
    run_study(tmp_path, "rte,cola,ax,mnli", runs, **options)
    starts = starts_of(runs)
    mnli = tmp_path / "out/mnli/learning_rate-0.0001"
    assert starts["rte-learning_rate-0.001-seed-1"] == str(mnli / "seed-1")
    assert starts["ax-learning_rate-0.0001-seed-0"] == str(mnli / "seed-0")
    assert starts["cola-learning_rate-0.001-seed-1"] == "encoder"
    assert [one[2:] for one in runs.made if one[0].startswith("ax")] == [(False, True), (False, True)]
    run_study(tmp_path, "rte,cola,ax,mnli", again := Runs(), **options)
    assert again.made == []
    run_study(tmp_path / "named", "rte,cola", named := Runs(), mnli_checkpoint="elsewhere")
    assert starts_of(named) == {"rte-seed-0": "elsewhere", "cola-seed-0": "encoder"}


def test_more_seeds_may_change_the_best_model_of_mnli(tmp_path):
    scores = {(1e-3, 0): 0.6, (1e-4, 0): 0.5, (1e-3, 1): 0.1, (1e-4, 1): 0.9}
    options = {"grid": ["learning_rate=1e-3,1e-4"], "mnli_checkpoint": "auto"}
    for seeds, best in (([0], "0.001"), ([0, 1], "0.0001")):
        runs = Runs(lambda task, args: scores[args.learning_rate, args.seed])
        run_study(tmp_path, "mnli,ax,rte", runs, seeds=seeds, **options)
        starts = starts_of(runs)
        mnli = tmp_path / f"out/mnli/learning_rate-{best}"
        assert starts["rte-learning_rate-0.001-seed-0"] == starts[f"ax-learning_rate-{best}-seed-0"]
        assert starts["rte-learning_rate-0.001-seed-0"] == str(mnli / "seed-0")


# Tables


def test_means_deviations_and_averages(tmp_path, capsys):
    def scores(task, args):
        return {"cola": 0.2, "mrpc": 0.8, "mnli": 0.5}[task] + 0.1 * args.seed

    study = run_study(tmp_path, "cola,mrpc,mnli", Runs(scores), seeds=[0, 1, 2])
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

    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cola", "matthews", "correlation", "30.00", "10.00", "20.00", "30.00", "40.00"] in table
    report = (tmp_path / "out/glue_report.md").read_text(encoding="utf-8")
    assert "| cola | matthews correlation | 30.00 | 10.00 | 20.00 | 30.00 | 40.00 |" in report


def test_the_glue_average_counts_nine_tasks_and_not_the_diagnostic_set(tmp_path):
    scores = {name: index / 10 for index, name in enumerate(GLUE_TASKS)}
    study = run_study(tmp_path, "all", Runs(lambda task, args: scores[task]), seeds=[3])
    averages = glue_averages(study.chosen)
    for title, others in (("GLUE average (9 tasks)", ["ax"]), ("GLUE average without wnli (8 tasks)", ["ax", "wnli"])):
        counted = [score for name, score in scores.items() if name not in others]
        assert averages[title] == pytest.approx([statistics.fmean(counted)])
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
    study = run_study(tmp_path, "stsb", Runs(lambda task, args: math.nan if args.seed else 0.5), seeds=[0, 1])
    rows = summary_rows(summarize(study))
    assert rows[1] == ["stsb", "pearson", "-", "-", "50.00", "-"]


def test_without_a_score_no_model_is_the_best(tmp_path, capsys):
    files = {"train_file": write(tmp_path / "a.csv", [{"sentence": "a", "label": "x"}])}
    task = replace(LOCAL_TASK, label_names=("score",), metric="regression", problem_type="regression")
    run_study(tmp_path, None, Runs(lambda *_: math.nan, task=task), check=lambda *_: task, **files)
    printed = capsys.readouterr().out
    assert "Wrote " in printed and "Best model" not in printed


# Submission


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
def test_every_test_split_has_its_file(benchmark):
    files = SUBMISSION_FORMATS[benchmark.name].files
    assert {name: set(splits) for name, splits in files.items()} == {
        name: set(task.test_splits.values()) for name, task in benchmark.tasks.items()
    }
    names = {file for splits in files.values() for file, _ in splits.values()}
    assert len(names) == sum(map(len, files.values()))


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
    study = run_study(tmp_path, "mnli,ax", runs, STAGES, seeds=[0, 2, 1])
    for run in study.chosen["ax"]:
        label = "neutral" if run.seed == 2 else "entailment"
        (run.output_dir / "predictions_test.tsv").write_text(f"index\tprediction\n0\t{label}\n")
    report_study(study)
    assert (tmp_path / "out/submission/AX.tsv").read_text().splitlines()[1] == "0\tneutral"


# CLUE


ONE_DOT_ONE = "CLUE 1.1 classification score (6 tasks, ocnli)"
ONE_DOT_ZERO = "CLUE 1.0 classification score (6 tasks, cmnli)"


def clue_study(tmp_path, tasks: str | None, flags=STAGES, **options) -> Study:
    """Makes all runs; the accuracy is the number of the task in tenths."""
    runs = Runs(lambda task, args: list(CLUE_TASKS).index(task) / 10)
    return run_study(tmp_path, tasks, runs, flags, dataset_name="clue", **options)


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


def test_the_files_of_clue():
    assert {task: split["test"] for task, split in SUBMISSION_FORMATS["clue"].files.items()} == {
        "afqmc": ("afqmc_predict.json", 3861),
        "tnews": ("tnews11_predict.json", 10_000),
        "iflytek": ("iflytek_predict.json", 2600),
        "cmnli": ("cmnli_predict.json", 13_880),
        "ocnli": ("ocnli_50k_predict.json", 3000),
        "csl": ("csl_predict.json", 3000),
        "cluewsc2020": ("cluewsc11_predict.json", 2574),
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
        message = r"--do_predict needs the split test, .*Give --test_file \(or .* --data_dir"
        with pytest.raises(ValueError, match=message):
            clue_study(tmp_path / "asked", "tnews", ("do_train", "do_predict"), **options)
