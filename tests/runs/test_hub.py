# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From a run to a model that others load: `huggingface_hub` and transformers as they are, a Hub on this machine.

Where the Hub is and whether it may be asked is read when `huggingface_hub` is imported, so its users are processes of
their own: one that has the package and pushes, and some that have not and load.
"""

import contextlib
import io
import json
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import Hub, Repository, User, environment, serve
from transformers import AutoConfig, AutoTokenizer, TrainingArguments

import modeling_gau
import run_glue
import run_pretrain
from modeling_gau.modeling_gau import AUTO_CLASSES
from modeling_gau.runs.publishing import check_push_destination


WRITER, READER, STRANGER, UNKNOWN = (
    "hf_theWritersSecret",
    "hf_theReadersSecret",
    "hf_theStrangersSecret",
    "hf_ofNobody",
)
CODE = {"attention_gau.py", "configuration_gau.py", "kernels_gau.py", "modeling_gau.py", "unpadding_gau.py"}
STATES = re.compile(r"checkpoint-|optimizer|scheduler|rng_state|run_state|\.pt$|training_args\.bin")
TINY = "hidden_size=16,intermediate_size=32,attention_key_size=8,num_hidden_layers=2"
SENTENCES = ["a b c d", "d c b a a"]
PRETRAINED, CLASSIFIER = "someone/pretrained", "team/sentiment"

# Loads as somebody does who has transformers and not this package.
LOAD = """
import json, sys

sys.modules["modeling_gau"] = None
asked = json.loads(sys.argv[1])

import torch, transformers
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained(asked["pretrained"], trust_remote_code=True)
inputs = tokenizer(asked["texts"][0], return_tensors="pt")
facts = {"modules": [], "logits": []}
for revision in asked["revisions"]:
    model = AutoModelForMaskedLM.from_pretrained(asked["pretrained"], trust_remote_code=True, revision=revision).eval()
    facts["modules"].append(type(model).__module__)
    with torch.no_grad():
        facts["logits"].append(model(**inputs).logits.tolist())
options = {"trust_remote_code": True, "token": asked["token"], "top_k": None}
facts["classified"] = pipeline("text-classification", model=asked["classifier"], **options)(asked["texts"])
print(json.dumps(facts))
"""


# ---- What runs in the process that pushes ----


def run_script(main: Callable, argv: object, **constants: object) -> tuple[str, str | None]:
    """What a script prints, and the traceback that its user sees where it fails.

    Args:
        **constants: of `huggingface_hub`, while it runs.
    """
    printed, seen = io.StringIO(), None
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeling_gau.runs.progress.measure_matmul_peak", lambda device, dtype: 1e11)
        for name, value in constants.items():
            patch.setattr(f"huggingface_hub.constants.{name}", value)
        try:
            main(argv)
        except Exception:  # many of them do not survive the way to another process
            seen = traceback.format_exc()
    return printed.getvalue(), seen


def push_second(folder: Path) -> list:
    """Pushes other weights to the repository of the model in `folder`; returns the logits that they give."""
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = modeling_gau.GAUForMaskedLM(AutoConfig.from_pretrained(folder)).eval()
    model.push_to_hub(PRETRAINED, token=WRITER)
    with torch.no_grad():
        return model(**tokenizer(SENTENCES[0], return_tensors="pt")).logits.tolist()


# ---- Fixtures ----


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    hub = Hub()
    hub.users[WRITER] = User("someone", organizations=("team",))
    hub.users[READER] = User("someone", organizations=("team",), role="read")
    hub.users[STRANGER] = User("stranger")
    with serve(hub):
        yield hub


@pytest.fixture(scope="module")
def pusher(hub, tmp_path_factory) -> Iterator[ProcessPoolExecutor]:
    """Runs functions in a process that has the package and no token but those that it is given."""
    home = tmp_path_factory.mktemp("pusher")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(hub, str(home)).items():
            patch.setenv(name, value)
        pool.submit(os.getpid).result()
    yield pool
    pool.shutdown(wait=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("data")
    text = "a b c d e f g h i j k l m n o p ".split()
    for number in range(8):
        words = [text[(number * 5 + place * (number + 3)) % len(text)] for place in range(120)]
        (folder / f"{number}.txt").write_text(" ".join(words))
    rows = [{"sentence": SENTENCES[row % 2], "label": row % 2} for row in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_tokenizer("abcdefghijklmnop").save_pretrained(folder / "tokenizer")
    return folder


def arguments(**options: object) -> list[str]:
    """A command line; True makes an option a flag, None leaves it out."""
    quick = {"use_cpu": True, "disable_tqdm": "true", "push_to_hub": True, "report_to": "none"}
    words = []
    for name, value in (quick | options).items():
        if value is not None:
            words += [f"--{name}", *([] if value is True else [str(value)])]
    return words


def pretraining(data: Path, output_dir: Path, **options: object) -> list[str]:
    run = {
        "config_name": "gau-tiny", "config_overrides": TINY, "train_file": data / "[0-9].txt", "vocab_size": 80,
        "validation_split_percentage": 20, "max_seq_length": 16, "eval_lengths": "16", "max_steps": 4,
        "save_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 4, "hub_strategy": "end",
        "output_dir": output_dir, "cache_dir": output_dir.parent / "cache",
    }  # fmt: skip
    return arguments(**run | options)


def fine_tuning(data: Path, output_dir: Path, **options: object) -> list[str]:
    run = {
        "task_name": "sst2", "train_file": data / "rows.jsonl", "validation_file": data / "rows.jsonl",
        "config_name": "gau-tiny", "config_overrides": TINY, "tokenizer_name": data / "tokenizer",
        "max_seq_length": 16, "num_train_epochs": 2, "save_strategy": "epoch", "output_dir": output_dir,
        "cache_dir": output_dir.parent / "cache",
    }  # fmt: skip
    return arguments(**run | options)


@pytest.fixture(scope="module")
def interrupted(hub, pusher, data, tmp_path_factory) -> dict:
    """A pretraining run whose second LFS file does not arrive, and the command that its error names."""
    output_dir = tmp_path_factory.mktemp("pretraining") / "out"
    hub.break_upload(2)
    argv = pretraining(data, output_dir, hub_model_id=PRETRAINED.partition("/")[2], hub_token=WRITER)
    printed, seen = pusher.submit(run_script, run_pretrain.main, argv).result()
    first = set(hub.uploads)
    command = re.search(r"^ +(hf upload .*)$", seen or "", re.MULTILINE)
    assert command, seen or printed
    words = shlex.split(command[1])
    again = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *words[1:]],
        env=os.environ | environment(hub, str(output_dir.parent), HF_TOKEN=WRITER),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    return {"output_dir": output_dir, "seen": seen, "first": first, "second": set(hub.uploads) - first}


@pytest.fixture(scope="module")
def fine_tuned(hub, pusher, data, tmp_path_factory) -> Path:
    """Output directory of a fine-tuning run that pushes after every checkpoint and at the end."""
    output_dir = tmp_path_factory.mktemp("fine-tuning") / "out"
    options = {"hub_model_id": CLASSIFIER, "hub_token": WRITER, "hub_private_repo": "true"}
    _, seen = pusher.submit(run_script, run_glue.main, fine_tuning(data, output_dir, **options)).result()
    assert seen is None, seen
    return output_dir


# ---- Tests ----


def metadata(hub: Hub, repo_id: str) -> dict:
    return yaml.safe_load(hub.repositories[repo_id].files["README.md"].decode().split("---\n")[1])


def uploaded(hub: Hub, repo_id: str) -> set[str]:
    """The paths of all commits, none of whose files holds the token that it came with."""
    commits = hub.repositories[repo_id].commits.values()
    assert not {path for files in commits for path, content in files.items() if WRITER.encode() in content}
    return {path for files in commits for path in files}


def test_pretraining_run_is_pushed(hub, interrupted):
    files = hub.repositories[PRETRAINED].files
    weights = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert weights | CODE | {"README.md", "loss_curve.png", "run.json"} <= set(files)
    assert not [path for path in uploaded(hub, PRETRAINED) if STATES.search(path)]
    assert set(json.loads(files["config.json"])["auto_map"]) == {"AutoConfig", *AUTO_CLASSES}
    assert (interrupted["output_dir"] / "checkpoint-4").is_dir()
    card = metadata(hub, PRETRAINED)
    assert (card["pipeline_tag"], card["library_name"]) == ("fill-mask", "transformers")
    assert card["model-index"][0]["results"]
    assert f'"{PRETRAINED}"' in files["README.md"].decode()  # what to load, as its example says


def test_interrupted_upload_is_taken_up_again(hub, interrupted):
    message = interrupted["seen"].partition(f"The upload to {PRETRAINED} did not finish")[2]
    assert str(interrupted["output_dir"]) in message and "without training again" in message
    assert WRITER not in interrupted["seen"]
    # One file had arrived, and only the other was sent again.
    assert len(interrupted["first"]) == len(interrupted["second"]) == 1
    weights = hub.repositories[PRETRAINED].files["model.safetensors"]
    assert weights == (interrupted["output_dir"] / "model.safetensors").read_bytes()


def test_fine_tuning_run_is_pushed(hub, fine_tuned):
    repository = hub.repositories[CLASSIFIER]
    weights = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert repository.private and weights | CODE | {"README.md", "all_results.json"} <= set(repository.files)
    assert len(repository.commits) > 2  # the first, those of the checkpoints, and that of the end
    assert not [path for path in uploaded(hub, CLASSIFIER) if STATES.search(path) or "predictions" in path]
    assert list(fine_tuned.glob("predictions_*.tsv"))  # they hold the user's texts
    card = metadata(hub, CLASSIFIER)
    assert card["pipeline_tag"] == "text-classification" and card["model-index"][0]["results"]
    assert (fine_tuned / "README.md").read_bytes() == repository.files["README.md"]


def test_pushed_models_load_where_the_package_is_missing(hub, pusher, interrupted, fine_tuned, tmp_path):
    first = hub.repositories[PRETRAINED].branches["main"]
    expected = pusher.submit(push_second, interrupted["output_dir"]).result()
    asked = {"pretrained": PRETRAINED, "classifier": CLASSIFIER, "token": READER, "texts": SENTENCES}
    asked["revisions"] = [first, "main"]
    for offline in ("0", "1"):
        home = environment(hub, str(tmp_path), HF_HUB_OFFLINE=offline)
        command = [sys.executable, "-c", LOAD, json.dumps(asked)]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout.splitlines()[-1])
        assert all(module.startswith("transformers_modules.") for module in facts["modules"])
        earlier, newest = map(torch.tensor, facts["logits"])
        torch.testing.assert_close(newest, torch.tensor(expected))
        assert not torch.allclose(earlier, newest)
        for answer in facts["classified"]:
            assert {one["label"] for one in answer} == {"negative", "positive"}


def test_script_that_may_not_read_its_model_says_so(hub, pusher, data, fine_tuned, tmp_path):
    options = {"model_name_or_path": CLASSIFIER, "config_name": None, "config_overrides": None, "push_to_hub": None}
    argv = fine_tuning(data, tmp_path / "out", **options)
    _, seen = pusher.submit(run_script, run_glue.main, argv).result()
    last = seen.rpartition("\n\n")[2]
    assert CLASSIFIER in last and "token" in last
    _, seen = pusher.submit(run_script, run_glue.main, [*argv, "--token", READER]).result()
    assert seen is None, seen


REFUSED = {
    "no token": ({}, "no token to write to mine"),
    "unknown token": ({"hub_token": UNKNOWN}, "does not know the token"),
    "token for reading": ({"hub_token": READER}, "token may not write"),
    "namespace of others": ({"hub_token": WRITER, "hub_model_id": "stranger/new"}, "token may not write"),
    "repository of others": ({"hub_token": STRANGER, "hub_model_id": "someone/taken"}, "token may not write"),
    "three parts": ({"hub_token": WRITER, "hub_model_id": "a/b/c"}, "'a/b/c' (--hub_model_id) cannot be the name"),
    "directory": ({"hub_token": WRITER, "hub_model_id": None}, "(the last part of --output_dir; give --hub_model_id)"),
}


@pytest.mark.parametrize("options, message", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("script", ["run_pretrain", "run_glue"])
def test_push_that_cannot_succeed_fails_before_the_run(hub, pusher, data, tmp_path, script, options, message):
    if "someone/taken" not in hub.repositories:
        hub.repositories["someone/taken"] = Repository("someone/taken")
    main, command = (run_glue.main, fine_tuning) if script == "run_glue" else (run_pretrain.main, pretraining)
    nothing = tmp_path / "missing"  # read first, the data would be what fails
    argv = command(nothing, tmp_path / "my run", **{"hub_model_id": "mine"} | options)
    repositories = set(hub.repositories)
    _, seen = pusher.submit(run_script, main, argv).result()
    assert message in seen.rpartition("\nValueError: ")[2]
    assert set(hub.repositories) == repositories and not (tmp_path / "my run").exists()


def test_push_destination_is_made(hub, pusher, tmp_path):
    options = {"push_to_hub": True, "hub_token": WRITER, "hub_private_repo": True, "hub_revision": "trial"}
    args = TrainingArguments(str(tmp_path / "made"), use_cpu=True, **options)
    assert pusher.submit(check_push_destination, args).result() == "someone/made"
    repository = hub.repositories["someone/made"]
    assert repository.private and repository.branches.keys() == {"main", "trial"}
    assert pusher.submit(check_push_destination, args).result() == "someone/made"
    assert hub.repositories["someone/made"] is repository and len(repository.commits) == 1


def test_hub_out_of_reach(pusher, tmp_path):
    args = TrainingArguments(str(tmp_path), push_to_hub=True, hub_token=WRITER)
    _, seen = pusher.submit(run_script, check_push_destination, args, ENDPOINT="http://127.0.0.1:9").result()
    assert seen.endswith("--push_to_hub asked http://127.0.0.1:9; nothing was computed yet.\n")


def test_push_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    args = TrainingArguments(str(tmp_path), push_to_hub=True, hub_token=WRITER)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE"):
        check_push_destination(args)
    assert check_push_destination(TrainingArguments(str(tmp_path))) is None
