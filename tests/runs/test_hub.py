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
from hub_server import Hub, Repository, Server, environment
from huggingface_hub import HfApi
from test_remote_code import HEADS, make_config, make_inputs, make_tokenizer, outputs_of
from transformers import TrainingArguments

import modeling_gau
import run_glue
import run_pretrain
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
PRETRAINED, CLASSIFIER, GATED = "someone/pretrained", "team/sentiment", "someone/gated"

# Loads as somebody does who has transformers and not this package, and saves what came of it.
LOAD = """
import json, sys
from pathlib import Path

sys.modules["modeling_gau"] = None
folder, results, asked = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])

import huggingface_hub, torch, transformers
from transformers import AutoTokenizer, pipeline

huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1000  # a download of less than one begins anew where it is broken off
inputs = torch.load(folder / "inputs.pt")
facts, outputs = {"modules": {}, "errors": {}}, {}

def load(head, repo_id, **options):
    model = getattr(transformers, head).from_pretrained(repo_id, trust_remote_code=True, **options).eval()
    facts["modules"][repo_id] = type(model).__module__
    return model

for name, (head, repo_id, revision) in asked["models"].items():
    with torch.no_grad():
        outputs[name] = [*load(head, repo_id, revision=revision)(**inputs[head], return_dict=True).values()]
for name, (repo_id, options) in asked["refused"].items():
    try:
        load("AutoModelForSequenceClassification", repo_id, **options)
    except OSError as error:
        facts["errors"][name] = str(error)
repo_id, token, texts = asked["classifier"]
classify = pipeline("text-classification", model=repo_id, trust_remote_code=True, token=token)
facts["classified"] = classify(texts, top_k=None)
facts["tokens"] = AutoTokenizer.from_pretrained(asked["models"]["AutoModelForMaskedLM"][1]).tokenize(texts[0])
torch.save(outputs, results / "outputs.pt")
(results / "facts.json").write_text(json.dumps(facts))
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


def push_heads(folder: Path) -> dict[str, str]:
    """Pushes a model for every head, the masked language model twice; saves what they compute, as `expected.pt`.

    Returns:
        The commits by the names of the outputs.
    """
    inputs = {head: make_inputs(2, 3, 9) if "Choice" in head else make_inputs(2, 9) for head in HEADS}
    outputs, commits = {}, {}
    for seed, (head, name) in enumerate([*HEADS.items(), ("AutoModelForMaskedLM", HEADS["AutoModelForMaskedLM"])]):
        torch.manual_seed(seed)
        model = getattr(modeling_gau, name)(make_config(num_labels=3))
        key = f"{head}, second" if head in commits else head
        commits[key] = model.push_to_hub(f"someone/{head}", token=WRITER).oid
        outputs[key] = outputs_of(model, inputs[head])
    make_tokenizer().push_to_hub("someone/AutoModelForMaskedLM", token=WRITER)
    torch.save(inputs, folder / "inputs.pt")
    torch.save(outputs, folder / "expected.pt")
    return commits


# ---- Fixtures ----


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    hub = Hub()
    hub.add_user(WRITER, "someone", organizations=("team",))
    hub.add_user(READER, "someone", organizations=("team",), role="read")
    hub.add_user(STRANGER, "stranger")
    server = Server(hub)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def hub(server) -> Hub:
    return server.hub


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
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    text = "a b c d e f g h i j k l m n o p ".split()
    for number in range(8):
        words = [text[(number * 5 + place * (number + 3)) % len(text)] for place in range(120)]
        (folder / f"{number}.txt").write_text(" ".join(words))
    rows = [{"sentence": SENTENCES[row % 2], "label": row % 2} for row in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_tokenizer().save_pretrained(folder / "tokenizer")
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
    first, begin = hub.uploads(), len(hub.log)
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
    return {"output_dir": output_dir, "seen": seen, "first": first, "second": hub.uploads(begin)}


@pytest.fixture(scope="module")
def fine_tuned(hub, pusher, data, tmp_path_factory) -> Path:
    """Output directory of a fine-tuning run that pushes after every checkpoint and at the end."""
    output_dir = tmp_path_factory.mktemp("fine-tuning") / "out"
    options = {"hub_model_id": CLASSIFIER, "hub_token": WRITER, "hub_private_repo": "true"}
    _, seen = pusher.submit(run_script, run_glue.main, fine_tuning(data, output_dir, **options)).result()
    assert seen is None, seen
    return output_dir


@pytest.fixture(scope="module")
def pushed(pusher, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder with inputs and outputs of the models of all heads, and their commits."""
    folder = tmp_path_factory.mktemp("heads")
    return folder, pusher.submit(push_heads, folder).result()


def load(hub: Hub, pushed: tuple[Path, dict[str, str]], results: Path, home: Path, **changes: str) -> dict:
    folder, commits = pushed
    models = {head: (head, f"someone/{head}", None) for head in HEADS if head != "AutoModelForMaskedLM"}
    for name in ("AutoModelForMaskedLM", "AutoModelForMaskedLM, second"):
        revision = None if "second" in name else commits[name]
        models[name] = ("AutoModelForMaskedLM", "someone/AutoModelForMaskedLM", revision)
    refused = {
        "no token": (CLASSIFIER, {"token": False}),
        "unknown token": (CLASSIFIER, {"token": UNKNOWN}),
        "token of others": (CLASSIFIER, {"token": STRANGER}),
        "gated": (GATED, {}),
        "no such revision": ("someone/AutoModelForSequenceClassification", {"revision": "nowhere"}),
    }
    asked = {"models": models, "refused": refused, "classifier": (CLASSIFIER, READER, SENTENCES)}
    results.mkdir()
    process = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), str(results), json.dumps(asked)],
        cwd=results,
        env=os.environ | environment(hub, str(home), **changes),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    facts = json.loads((results / "facts.json").read_text())
    return facts | {"outputs": torch.load(results / "outputs.pt")}


@pytest.fixture(scope="module")
def loaded(server, hub, pushed, fine_tuned, tmp_path_factory) -> dict[str, dict]:
    """What processes without the package report: one from the server, one after it offline, with no server there."""
    folder = tmp_path_factory.mktemp("loaded")
    hub.repositories[GATED] = Repository(GATED, gated=True)
    hub.break_download("someone/AutoModel", "model.safetensors")
    online = load(hub, pushed, folder / "online", folder / "home")
    server.stop()
    try:
        offline = load(hub, pushed, folder / "offline", folder / "home", HF_HUB_OFFLINE="1")
    finally:
        server.start()
    return {"online": online, "offline": offline}


# ---- Tests ----


def metadata(hub: Hub, repo_id: str) -> dict:
    return yaml.safe_load(hub.repositories[repo_id].files["README.md"].content.decode().split("---\n")[1])


def uploaded(hub: Hub, repo_id: str) -> set[str]:
    """The paths of all commits, none of whose files holds the token that it came with."""
    commits = hub.repositories[repo_id].commits.values()
    assert not {path for files in commits for path, blob in files.items() if WRITER.encode() in blob.content}
    return {path for files in commits for path in files}


def test_pretraining_run_is_pushed(hub, interrupted):
    files = hub.repositories[PRETRAINED].files
    weights = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert weights | CODE | {"README.md", "loss_curve.png", "run.json"} <= set(files)
    assert not [path for path in uploaded(hub, PRETRAINED) if STATES.search(path)]
    auto_map = json.loads(files["config.json"].content)["auto_map"]
    assert auto_map["AutoModelForMaskedLM"] == "modeling_gau.GAUForMaskedLM"
    assert (interrupted["output_dir"] / "checkpoint-4").is_dir()
    card = metadata(hub, PRETRAINED)
    assert (card["pipeline_tag"], card["library_name"]) == ("fill-mask", "transformers")
    assert card["model-index"][0]["results"]
    assert f'"{PRETRAINED}"' in files["README.md"].content.decode()  # what to load, as its example says


def test_interrupted_upload_is_taken_up_again(hub, interrupted):
    message = interrupted["seen"].partition(f"The upload to {PRETRAINED} was not finished")[2]
    assert str(interrupted["output_dir"]) in message and "without training again" in message
    assert WRITER not in interrupted["seen"]
    files = hub.repositories[PRETRAINED].files
    broken = {blob.sha256 for blob in files.values() if blob.is_lfs} - set(interrupted["first"])
    assert len(broken) == 1 and len(interrupted["first"]) == 1
    assert interrupted["second"] == [*broken]
    assert len([one for one in hub.log if one.method == "PUT" and one.status is None]) == 1


def test_fine_tuning_run_is_pushed(hub, fine_tuned):
    repository = hub.repositories[CLASSIFIER]
    weights = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert repository.private and weights | CODE | {"README.md", "all_results.json"} <= set(repository.files)
    assert len(repository.commits) > 2  # the first, those of the checkpoints, and that of the end
    assert not [path for path in uploaded(hub, CLASSIFIER) if STATES.search(path)]
    card = metadata(hub, CLASSIFIER)
    assert card["pipeline_tag"] == "text-classification" and card["model-index"][0]["results"]
    assert (fine_tuned / "README.md").read_bytes() == repository.files["README.md"].content


# Two tests and not ten: test processes that share the tests of a file would load everything once each.
def test_models_load_where_the_package_is_missing(hub, pushed, loaded):
    expected = torch.load(pushed[0] / "expected.pt")
    assert expected.keys() == {*HEADS, "AutoModelForMaskedLM, second"}
    for where, found in loaded.items():
        torch.testing.assert_close(found["outputs"], expected, msg=lambda text, where=where: f"{where}: {text}")
        assert all(module.startswith("transformers_modules.") for module in found["modules"].values())
        assert found["tokens"] == SENTENCES[0].split()
        for answer in found["classified"]:
            assert {one["label"] for one in answer} == {"negative", "positive"}
            assert sum(one["score"] for one in answer) == pytest.approx(1)
    # The revisions are two models.
    assert not torch.allclose(expected["AutoModelForMaskedLM"][0], expected["AutoModelForMaskedLM, second"][0])
    # A download that was broken off went on where it stopped, and nothing was asked for by who was offline.
    weights = "/someone/AutoModel/resolve/[^/]+/model.safetensors"
    downloads = [(one.status, one.range is not None) for one in hub.requests("GET", weights)]
    assert downloads == [(200, False), (None, False), (206, True)]


def test_repositories_that_cannot_be_read(loaded):
    private = f"{CLASSIFIER} is not .*If this is a private repository, make sure to pass a token"
    messages = {
        "no token": private,
        "unknown token": f"trying to load {CLASSIFIER}.*Invalid credentials in Authorization header",
        "token of others": private,
        "gated": f"gated repo.*{GATED}",
        "no such revision": "nowhere is not a valid git identifier",
    }
    assert loaded["online"]["errors"].keys() == messages.keys()
    for name, message in messages.items():
        assert re.search(message, loaded["online"]["errors"][name], re.DOTALL), name


def test_script_that_may_not_read_its_model_says_so(hub, pusher, data, fine_tuned, tmp_path):
    options = {"model_name_or_path": CLASSIFIER, "config_name": None, "config_overrides": None, "push_to_hub": None}
    argv = fine_tuning(data, tmp_path / "out", **options)
    _, seen = pusher.submit(run_script, run_glue.main, argv).result()
    last = seen.rpartition("\n\n")[2]
    assert CLASSIFIER in last and "token" in last
    _, seen = pusher.submit(run_script, run_glue.main, [*argv, "--token", READER]).result()
    assert seen is None


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
        hub.create_repository(hub.users[WRITER], {"organization": "someone", "name": "taken"})
    main, command = (run_glue.main, fine_tuning) if script == "run_glue" else (run_pretrain.main, pretraining)
    nothing = tmp_path / "missing"  # read first, the data would be what fails
    argv = command(nothing, tmp_path / "my run", **{"hub_model_id": "mine"} | options)
    repositories = set(hub.repositories)
    _, seen = pusher.submit(run_script, main, argv).result()
    assert message in seen.rpartition("\nValueError: ")[2]
    assert set(hub.repositories) == repositories and not (tmp_path / "my run").exists()


CARDS = {
    "license": ("license: of my own", '"license" must be'),
    "language": ("language: English", '"language" must be'),
    "base model": ("base_model: /models/mine", '"base_model" must be'),
    "pipeline": ("pipeline_tag: sentiment", '"pipeline_tag" must be one of'),
    "value": ("model-index: [{name: m, results: [{task: {type: t}, dataset: {type: d, name: d}, "
              "metrics: [{type: accuracy, value: .nan}]}]}]", "value that is a number"),
    "no YAML": ("tags: [", "YAML"),
}  # fmt: skip


def push_card(content: str) -> None:
    HfApi().upload_file(
        path_or_fileobj=content.encode(), path_in_repo="README.md", repo_id="someone/none", token=WRITER
    )


@pytest.mark.parametrize("line, message", CARDS.values(), ids=CARDS)
def test_hub_refuses_cards_with_illegal_metadata(pusher, line, message):
    """Or the cards of the runs above would have passed without a look."""
    _, seen = pusher.submit(run_script, push_card, f"---\nlibrary_name: transformers\n{line}\n---\nText").result()
    assert message in seen.rpartition("\nValueError: Invalid metadata in README.md.\n- ")[2]


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
    assert seen.endswith("http://127.0.0.1:9 was asked for --push_to_hub, before anything was computed.\n")


def test_push_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    args = TrainingArguments(str(tmp_path), push_to_hub=True, hub_token=WRITER)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE"):
        check_push_destination(args)
    assert check_push_destination(TrainingArguments(str(tmp_path))) is None
