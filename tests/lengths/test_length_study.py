# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`modeling_gau/lengths/study.py`: which runs a study has, which of them are made again, and what happens to them.

Runs are stood in for by their records, or by commands that do nothing, but for the last test, which makes real ones.
"""

import csv
import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from modeling_gau.lengths.study import Study, check_scripts, main, parse_command_line
from modeling_gau.lengths.study_file import StudyFile
from modeling_gau.runs import jobs
from modeling_gau.runs.jobs import Job, Runner, check_needs, device_environments
from modeling_gau.runs.locks import lock
from modeling_gau.runs.state_files import for_json
from modeling_gau.runs.tables import write_csv


ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "configuration" / "recipes" / "study"
GLUE_TEXT = {"sentence": "a row", "sentence1": "one row", "sentence2": "another", "label": 0}


CONTENT = {
    "pretrain_recipe": "configuration/recipes/study/smoke-pretrain.yaml",
    "glue_recipe": "configuration/recipes/study/smoke-glue.yaml",
    "tokenizer": {"vocab_size": 512},
    "seeds": [3, 4],
    "tune_steps": 5,
    "learning_rates": [1e-3, 2e-3, 4e-3],
    "trainings": {
        "softmax": {"attention_normalization": "softmax"},
        "mixed": {"attention_normalization": "softmax", "mixed_lengths": [32, 64], "tuned_as": "softmax"},
    },
    "ablations": {"n8": {"attention_normalization": "squared_relu", "fixed_n": 8}},
    "evaluations": {"lengths": {"trainings": ["softmax", "mixed"], "lengths": [16, 64]}},
    "fine_tunings": {"plus": {"training": "softmax", "config_overrides": "attention_normalization=softmax_plus"}},
    "glue_tasks": {"rte": {"max_train_samples": 32}, "cola": {}},
}


@pytest.fixture
def make(tmp_path):
    """Makes a study of `CONTENT` and of changes to it."""
    for task in ("rte", "cola", "sst2", "mrpc"):
        (tmp_path / "glue" / task).mkdir(parents=True)
        for split in ("train", "validation"):
            lines = f"{json.dumps(GLUE_TEXT)}\n{json.dumps(GLUE_TEXT | {'label': 1})}\n" * 4
            (tmp_path / "glue" / task / f"{split}.jsonl").write_text(lines)

    def make(path=None, options=(), **changes):
        if path is None:
            path = tmp_path / "study.yaml"
            path.write_text(yaml.safe_dump(CONTENT | changes, sort_keys=False))
        words = ["--config", str(path), "--output_dir", str(tmp_path / "out")]
        (tmp_path / "b.txt").touch()
        words += ["--train_file", "a-*.txt", "--validation_file", str(tmp_path / "b.txt")]
        words += ["--data_dir", str(tmp_path / "glue")]
        args = parse_command_line([*words, *options])
        return Study(StudyFile.read(args.config), args)

    return make


def finish(study, job, status="finished", data="text", **results):
    """Leaves what a run leaves behind it."""
    record = {"status": status, "started": "today", "results": results, "data": data} | study._compared(job)
    path = study.output_dir / job.record
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(for_json(record)))


def finish_tuning(study, losses=(3.0, 2.0, 2.5)):
    for job in study.jobs:
        if job.stage == "tune":
            loss = losses[study.file.learning_rates.index(job.arguments["learning_rate"])]
            finish(study, job, eval_loss=loss, eval_accuracy=0.25)


@pytest.fixture
def tuned(make):
    """A study whose tuning is finished."""
    study = make()
    finish_tuning(study)
    return study


@pytest.fixture
def complete(tuned):
    """A study whose runs are all finished."""
    for job in tuned.jobs[6:]:
        finish(tuned, job, eval_accuracy=0.5, eval_matthews_correlation=0.1, eval_loss=1.0)
    return tuned


# The plan


def test_the_runs_of_a_study(make):
    names = [job.name for job in make().jobs]
    tuning = [f"tune/{training}/lr-{rate}" for training in ("softmax", "n8") for rate in ("0.001", "0.002", "0.004")]
    of_seed = [
        [
            f"pretrain/softmax/seed-{seed}",
            f"pretrain/mixed/seed-{seed}",
            f"evaluate/lengths/softmax-seed-{seed}",
            f"evaluate/lengths/mixed-seed-{seed}",
            f"fine_tune/plus/from-seed-{seed}/rte-run",
            f"fine_tune/plus/from-seed-{seed}/cola-run",
        ]
        for seed in (3, 4)
    ]
    assert names == tuning + of_seed[0] + of_seed[1]


def test_runs_wait_for_what_they_use(make):
    jobs = make().by_name
    tuning = tuple(f"tune/softmax/lr-{rate}" for rate in ("0.001", "0.002", "0.004"))
    assert jobs["tune/n8/lr-0.001"].needs == ()
    assert jobs["pretrain/softmax/seed-4"].needs == jobs["pretrain/mixed/seed-4"].needs == tuning
    assert jobs["evaluate/lengths/mixed-seed-4"].needs == ("pretrain/mixed/seed-4",)
    assert jobs["fine_tune/plus/from-seed-4/cola-run"].needs == ("pretrain/softmax/seed-4",)


def test_a_training_with_a_learning_rate_is_not_tuned(make):
    own = {"softmax": {"attention_normalization": "softmax", "learning_rate": 3e-3}}
    parts = {"trainings": own, "evaluations": {}, "fine_tunings": {}, "ablations": {}}
    study = make(**parts, learning_rates=[], tune_steps=None)
    assert [job.name for job in study.jobs] == ["pretrain/softmax/seed-3", "pretrain/softmax/seed-4"]
    assert study.jobs[0].needs == () and "--learning_rate 0.003 " in shlex.join(study.words(study.jobs[0]))
    finish(study, study.jobs[0], eval_loss=1.0, eval_accuracy=0.5)
    assert study.finished() == {study.jobs[0].name} and study.tuning_report(study.finished()) == []
    own["mixed"] = {"attention_normalization": "softmax", "tuned_as": "softmax"}
    with pytest.raises(ValueError, match="mixed: tuned_as names softmax, which has no tuning of its own"):
        make(**parts)


def test_commands(make, tmp_path):
    study, out = make(), tmp_path / "out"
    tune = shlex.join(study.words(study.by_name["tune/n8/lr-0.002"]))
    for part in (
        f"{sys.executable} run_pretrain.py --config {ROOT}/configuration/recipes/study/smoke-pretrain.yaml ",
        f"--tokenizer_name {out}/tokenizer --seed 3 --learning_rate 0.002 --max_steps 5 --save_strategy no ",
        f"--attention_normalization squared_relu --fixed_n 8 --output_dir {out}/tune/n8/lr-0.002 ",
        f"'{Path.cwd()}/a-*.txt' --validation_file {tmp_path}/b.txt ",
        "--resume_from_checkpoint auto",
    ):
        assert part in tune
    mixed = study.by_name["pretrain/mixed/seed-4"]
    assert "--seed 4 --attention_normalization softmax --mixed_lengths 32 64 " in shlex.join(study.words(mixed))
    assert "--learning_rate '<tuned>'" in shlex.join(study.words(mixed))
    assert "tuned_as" not in shlex.join(study.words(mixed))
    finish_tuning(study)
    assert "--learning_rate 0.002 " in shlex.join(study.words(mixed))
    glue = shlex.join(study.words(study.by_name["fine_tune/plus/from-seed-4/rte-run"]))
    assert "--config_overrides classifier_pooling=mean,attention_normalization=softmax_plus " in glue
    assert f"--task_name rte --data_dir {tmp_path}/glue --seeds 4 --model_name_or_path {out}/pretrain/softmax/" in glue
    lengths = shlex.join(study.words(study.by_name["evaluate/lengths/mixed-seed-4"]))
    assert f"-m modeling_gau.lengths --model_name_or_path {out}/pretrain/mixed/seed-4 " in lengths
    assert f"--corpus_file {tmp_path}/b.txt --output_file {out}/evaluate/lengths/mixed-seed-4.csv " in lengths


@pytest.mark.parametrize("name", ["study", "study-small", "study-smoke"])
def test_study_files_and_their_commands_parse(make, name):
    """In the classes of their scripts: `finished` parses all of them."""
    path = STUDIES / f"{name}.yaml"
    study = make(path)
    assert study.finished() == set()
    assert {job.stage for job in study.jobs} == {"tune", "pretrain", "evaluate", "fine_tune"}
    command = path.read_text(encoding="utf-8").split("# Command:")[1].split("\n#      ")[0]
    assert f"-m modeling_gau.lengths.study --config configuration/recipes/study/{path.name}" in command


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seedz": [1]}, "unknown seedz"),
        ({"tune_steps": None}, "tune_steps is missing: softmax, n8 have no learning_rate"),
        ({"seeds": [1, 1]}, "seeds must be one or more different numbers"),
        ({"trainings": {"a/b": {}}}, "'a/b' is not a folder name"),
        ({"trainings": {"softmax": {"tuned_as": "other"}}}, "softmax: tuned_as .'other'. is not among the trainings"),
        ({"evaluations": {"e": {"lengths": [16]}}}, "e: trainings None is not among the trainings softmax, mixed"),
        ({"fine_tunings": {"f": {"training": "n8"}}}, "f: training .'n8'. is not among the trainings"),
        ({"glue_tasks": {}}, "fine_tunings need a glue_recipe and glue_tasks"),
        (
            {"trainings": {"softmax": {"fixd_n": 8}, "mixed": {}}},
            "tune/softmax/lr-0.001: .*there is no option --fixd_n",
        ),
        ({"trainings": {"softmax": {"fixed_n": 0}, "mixed": {}}}, "tune/softmax/lr-0.001: --fixed_n must be"),
        ({"evaluations": {"e": {"trainings": ["mixed"], "context": ["upside"]}}}, "Unknown context 'upside'"),
        ({"trainings": {"softmax": {"fixed_n": None}, "mixed": {}}}, "fixed_n: None cannot be passed"),
    ],
)
def test_a_wrong_study_file_raises_before_anything_runs(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes).finished()


# Finished runs


def test_finished_runs_are_not_repeated(complete):
    study = complete
    assert study.finished() == set(study.by_name)
    finish(study, study.jobs[0], status="stopped by SIGTERM")
    # Without one of its runs the tuning has not chosen a learning rate: what was made with it is not known.
    unknown = {job.name for job in study.jobs if job.tuned_as == "softmax"}
    assert len(unknown) == 4 and study.finished() == set(study.by_name) - {study.jobs[0].name} - unknown


def test_an_added_learning_rate_makes_runs_stale(make, complete, tmp_path):
    more = make(learning_rates=[1e-3, 2e-3, 4e-3, 8e-3])
    added = [job for job in more.jobs if job.name in ("tune/softmax/lr-0.008", "tune/n8/lr-0.008")]
    for loss, failures in ((2.2, 0), (1.5, 1)):
        for job in added:
            finish(more, job, status="running")
        finished = more.finished()
        assert not finished & {f"pretrain/{name}/seed-{seed}" for name in ("softmax", "mixed") for seed in (3, 4)}
        for job in added:
            finish(more, job, eval_loss=loss, eval_accuracy=0.25)
        one = Runner(more.jobs, finished, more.is_finished, None, [{}], tmp_path, None)
        assert one.run() == len(one.failures) == failures
    assert "learning_rate (0.002 there, 0.008 here)" in one.failures[0]


def test_a_training_that_diverges_at_every_learning_rate_raises(make):
    study = make()
    finish_tuning(study, [float("nan")] * 3)
    with pytest.raises(ValueError, match="softmax diverged at every learning rate"):
        study.finished()


def test_an_ablation_that_diverges_stops_nothing(tuned):
    study = tuned
    for job in study.jobs[3:6]:
        finish(study, job, eval_loss=float("nan"), eval_accuracy=0.0)
    table, *warnings = study.tuning_report(study.finished())
    assert table.splitlines()[1].endswith("0.002") and table.splitlines()[2].endswith("none")
    assert warnings == ["Warning: n8 diverged at every learning rate: list lower ones."]


def test_text_that_changed(tuned, tmp_path):
    study = tuned
    finish(study, study.by_name["pretrain/softmax/seed-3"])
    finish(study, study.by_name["evaluate/lengths/softmax-seed-3"])
    assert "evaluate/lengths/softmax-seed-3" in study.finished()
    (tmp_path / "b.txt").write_text("Another text.")
    assert "evaluate/lengths/softmax-seed-3" not in study.finished()
    finish(study, study.by_name["pretrain/softmax/seed-4"], data="another text")
    with pytest.raises(
        ValueError, match=r"on different text or with different tokenizers: .*; pretrain/softmax/seed-4"
    ):
        study.finished()


def test_paths_may_be_relative(tuned):
    study = tuned
    path = study.output_dir / study.jobs[0].record
    record = json.loads(path.read_text())
    record["arguments"]["train_file"] = [os.path.relpath(Path.cwd() / "a-*.txt", ROOT)]
    record["arguments"] |= {"logging_steps": 7, "save_steps": 9, "run_name": "x", "output_dir": "elsewhere"}
    path.write_text(json.dumps(record))
    assert study.jobs[0].name in study.finished()


def test_a_run_with_other_arguments_raises(make, tuned):
    study = tuned
    finish(study, study.by_name["fine_tune/plus/from-seed-3/rte-run"], status="running")
    changed = make(tune_steps=6, tokenizer={"vocab_size": 9}, glue_tasks={"rte": {"max_train_samples": 5}})
    with pytest.raises(ValueError) as error:
        changed.finished()
    lines = str(error.value).splitlines()
    assert len(lines) == 7
    assert lines[0].startswith(f"{study.output_dir}/tune/softmax/lr-0.001 holds a run with other arguments: ")
    assert "max_steps (5 there, 6 here)" in lines[0]
    assert "rte-run holds" in lines[-1] and "max_train_samples (32 there, 5 here)" in lines[-1]


def test_rows_of_a_task_that_changed(make, tmp_path):
    study = make()
    finish(study, study.by_name["fine_tune/plus/from-seed-3/rte-run"])
    (tmp_path / "glue" / "rte" / "train.jsonl").write_text(json.dumps(GLUE_TEXT))
    with pytest.raises(ValueError, match=r"rte-run holds .*contents of train \(\w+ there, \w+ here\)"):
        study.finished()


def test_an_evaluation_with_more_lengths_continues(make):
    study = make()
    name = "evaluate/lengths/softmax-seed-3"
    finish(study, study.by_name[name])
    assert name in study.finished()
    more = {"lengths": {"trainings": ["softmax", "mixed"], "lengths": [16, 64, 128]}}
    assert name not in make(evaluations=more).finished()
    finish(study, study.by_name["pretrain/softmax/seed-3"], status="running")  # another checkpoint
    assert name not in study.finished()


def test_a_run_without_a_checkpoint_starts_over(make):
    study = make()
    job = study.jobs[0]
    finish(study, job, status="trained")
    (study.output_dir / job.name / "config.json").write_text("{}")
    assert study.words(job)[-2:] == ["--overwrite_output_dir", "true"]
    (study.output_dir / job.name / "checkpoint-5").mkdir()
    assert study.words(job)[-2:] == ["--resume_from_checkpoint", "auto"]


def test_omitted_stages_must_be_finished(make):
    study = make()
    pretraining = [job for job in study.jobs if job.stage == "pretrain"]
    with pytest.raises(ValueError, match=r"pretrain/softmax/seed-3 needs tune/softmax/lr-0.001, .* add tune to"):
        check_needs(pretraining, set())
    finish_tuning(study)
    check_needs(pretraining, study.finished())


def test_a_tokenizer_of_another_study(make, tmp_path):
    study = make()
    (tmp_path / "out" / "tokenizer").mkdir(parents=True)
    study.prepare_text()  # one without a record is taken as it is
    record = {"arguments": {"vocab_size": 9}}
    (tmp_path / "out" / "tokenizer" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"vocab_size \(9 there, 512 here\)"):
        study.prepare_text()


# Results


@pytest.mark.parametrize(
    ("losses", "best"),
    [((3.0, 2.0, 2.5), 2e-3), ((1.0, 2.0, 3.0), 1e-3), ((3.0, 2.0, float("nan")), 2e-3), ((float("nan"), 9, 8), 4e-3)],
)
def test_the_learning_rate_with_the_lowest_loss(make, losses, best):
    study = make()
    assert study.best_rate("softmax") is None and study.tuning_report(set()) == []
    finish_tuning(study, losses)
    assert study.best_rate("softmax") == study.best_rate("n8") == best
    table, *warnings = study.tuning_report(study.finished())
    assert table.splitlines()[1].split()[0] == "softmax" and table.splitlines()[1].endswith(f"{best:g}")
    expected = [f"Warning: the best learning rate of {name}, {best:g}, is at the edge" for name in ("softmax", "n8")]
    assert [line.removesuffix(" of the grid.") for line in warnings] == (expected if best != 2e-3 else [])


def test_tables(complete):
    study = complete
    rows = [{"checkpoint": "/a/b", "length": 16, "value": 2.5}, {"checkpoint": "/a/b", "length": 64, "value": 2}]
    for job in study.jobs:
        if job.stage == "evaluate":
            write_csv(study.output_dir / f"{job.name}.csv", rows)
    finished = study.finished() - {"fine_tune/plus/from-seed-4/cola-run", "evaluate/lengths/mixed-seed-4"}
    tuning, lengths, glue = (list(csv.reader(path.open())) for path in study.write_tables(finished))
    assert tuning[0] == ["training", "ablation", "learning_rate", "loss", "accuracy"]
    assert tuning[1] == ["softmax", "no", "0.001", "3.0", "0.25"] and tuning[-1][:3] == ["n8", "yes", "0.004"]
    assert lengths[0] == ["evaluation", "training", "seed", "checkpoint", "length", "value"]
    assert lengths[1] == ["lengths", "softmax", "3", "pretrain/softmax/seed-3", "16", "2.5"] and len(lengths) == 7
    assert glue[0] == ["fine_tuning", "training", "seed", "task", "metric", "value"]
    assert glue[1:] == [
        ["plus", "softmax", "3", "rte", "accuracy", "0.5"],
        ["plus", "softmax", "3", "cola", "matthews_correlation", "0.1"],
        ["plus", "softmax", "4", "rte", "accuracy", "0.5"],
    ]


# Running


@pytest.fixture
def run(tmp_path):
    """Runs jobs, name -> (needs, Python code), and returns the exit code, the runner and the names that ended."""

    def run(jobs, slots=1, finished=(), locks=()):
        ended = []
        one = Runner(
            [Job(name, "tune", {}, "", needs) for name, (needs, _) in jobs.items()],
            set(finished),
            lambda job: False,
            lambda job: [sys.executable, "-c", jobs[job.name][1]],
            [{"SLOT": str(number)} for number in range(slots)],
            tmp_path,
            lambda job, finished: ended.append(job.name) or "well",
            locks,
        )
        return one.run(), one, ended

    return run


def test_jobs_run_in_their_order_after_what_they_need(run, tmp_path, capsys):
    jobs = {"x/last": (("x/first",), ""), "x/first": (("x/there",), "print('hello')"), "x/there": ((), "1 / 0")}
    code, one, ended = run(jobs, finished=["x/there"])
    assert (code, one.waiting, ended) == (0, [], ["x/first", "x/last"])
    assert (tmp_path / "x" / "first.log").read_text().endswith("\nhello\n")
    assert "x/first: 0.0 minutes, well" in capsys.readouterr().out


def test_a_folder_has_one_study_and_its_runs(run, tmp_path):
    with lock(tmp_path / "out") as held:
        with pytest.raises(ValueError, match="is at work in"), lock(tmp_path / "out"):
            pass
        jobs = {"a": ((), f"import os; os.fstat({held})")}  # the process has the lock as well
        assert run(jobs, locks=[held])[0] == 0
    with lock(tmp_path / "out"):
        pass


def test_one_job_runs_on_each_device(run, tmp_path):
    # Each waits until the other one runs, on another device.
    code = (
        "import os, pathlib, time\n"
        f"own = pathlib.Path({str(tmp_path)!r}, 'slot-' + os.environ['SLOT'])\n"
        "own.touch()\n"
        "while len(list(own.parent.glob('slot-*'))) < 2: time.sleep(0.01)"
    )
    assert run({"a": ((), code), "b": ((), code)}, slots=2)[0] == 0


def test_a_failure_stops_the_study_after_what_runs(run, tmp_path, capsys):
    jobs = {
        "bad": ((), "print(*range(99), sep='\\n'); print('50%\\r100%'); raise SystemExit(3)"),
        "good": ((), "import time; time.sleep(1)"),
        "other": ((), ""),
    }
    code, one, ended = run(jobs, slots=2)
    assert (code, ended, [job.name for job in one.waiting]) == (1, ["good"], ["bad", "other"])
    text = capsys.readouterr().out
    assert "bad failed with 3:\n70\n" in text and "98\n100%" in text and f"The whole log: {tmp_path}/bad.log" in text


@pytest.fixture
def interrupt(tmp_path):
    """Sends this process a signal as soon as a file is there."""

    def send(name):
        while not (tmp_path / name).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def interrupt(*names):
        threading.Thread(target=lambda: [send(name) for name in names], daemon=True).start()

    handler = signal.getsignal(signal.SIGINT)
    yield interrupt
    assert signal.getsignal(signal.SIGINT) is handler


def child(tmp_path, on_signal):
    return (
        "import pathlib, signal, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        f"def save(*_): {on_signal}\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "(folder / 'ready').touch()\n"
        "time.sleep(60)"
    )


def test_a_signal_is_passed_on(run, interrupt, tmp_path, capsys):
    """The child saves; what waits is not begun."""
    interrupt("ready")
    code = child(tmp_path, "(folder / 'saved').touch(); sys.exit(143)")
    exit_code, one, ended = run({"a": ((), code), "b": ((), "")})
    assert (exit_code, ended, [job.name for job in one.waiting]) == (130, [], ["a", "b"])
    assert (tmp_path / "saved").exists() and "a: stopped after" in capsys.readouterr().out


def test_a_second_signal_ends_at_once(run, interrupt, tmp_path):
    interrupt("ready", "saving")
    exit_code, _, ended = run({"a": ((), child(tmp_path, "(folder / 'saving').touch()"))})
    assert (exit_code, ended) == (130, [])


def test_devices(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(jobs, "count_cores", lambda: 8)
    devices = [environment["CUDA_VISIBLE_DEVICES"] for environment in device_environments(None, False)]
    assert devices == ["4", "6"]
    cpu = device_environments(2, needs_cpu=True)
    assert [(one["OMP_NUM_THREADS"], one["CUDA_VISIBLE_DEVICES"]) for one in cpu] == [("4", "")] * 2
    assert len(device_environments(None, needs_cpu=True)) == 8


# For real


def test_missing_scripts_are_named(tmp_path):
    with pytest.raises(ValueError, match=rf"runs run_pretrain.py and run_glue.py, not found in {tmp_path}"):
        check_scripts(tmp_path)


@pytest.mark.usefixtures("forked_jobs")
def test_a_study_from_end_to_end(tmp_path, capsys):
    text = tmp_path / "text.jsonl"
    sentences = [f"the function number {row} returns the value of its argument and nothing else" for row in range(60)]
    text.write_text("".join(json.dumps({"text": " . ".join(sentences[row : row + 30])}) + "\n" for row in range(30)))
    (tmp_path / "glue" / "rte").mkdir(parents=True)
    for split in ("train", "validation"):
        rows = [{"sentence1": "it returns", "sentence2": f"value {row}", "label": row % 2} for row in range(32)]
        (tmp_path / "glue" / "rte" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = yaml.safe_load((ROOT / "configuration/recipes/study/study-smoke.yaml").read_text())
    del content["trainings"]["squared_relu_mixed"]  # the other tests cover `tuned_as`
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    words = ["--config", f"{tmp_path}/study.yaml", "--output_dir", f"{tmp_path}/out"]
    words += ["--train_file", str(text), "--data_dir", f"{tmp_path}/glue", "--jobs", "1"]
    main(words)
    assert "fine_tune/squared_relu-dynamic/from-seed-0/rte-run: " in capsys.readouterr().out
    rows = {name: list(csv.DictReader((tmp_path / "out" / f"{name}.csv").open())) for name in ("tuning", "lengths")}
    assert [row["training"] for row in rows["tuning"]] == ["squared_relu"]
    losses = {(row["n"], row["length"]) for row in rows["lengths"] if row["metric"] == "loss"}
    assert losses == {(n, length) for n in ("dynamic", "train") for length in ("16", "64", "128")}
    (result,) = csv.DictReader((tmp_path / "out" / "fine_tuning.csv").open())
    assert (result["task"], result["metric"], result["seed"]) == ("rte", "accuracy", "0")
    main(words)  # nothing is left to do
    assert not [line for line in capsys.readouterr().out.splitlines() if " minutes" in line]
    main([*words, "--dry_run"])
    shown = capsys.readouterr().out
    assert shown.count("[finished] ") == 4 and "[to do]" not in shown
