# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Runs 300 bad inputs, written down with their outcomes before any of them was run.

    python tests/bad_inputs/harness.py                 # all of them; writes results.csv
    python tests/bad_inputs/harness.py recipes-07 ...  # these, with what they said

`cases.jsonl` holds a case a line. `files` and `base64_files` are written into an empty working directory, after
`copies` of whole folders were made; `remove` comes last. Then `command` is run as on a command line, or `python` as a
script. A case is `refused` if it ends with one line that has all of its `names`: `error: ...` with exit code 2, or a
GAUError.
"""

import base64
import csv
import json
import multiprocessing
import os
import re
import runpy
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path


HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent / "gau_alpha")]

import gau_alpha_reference as reference  # noqa: E402
import torch  # noqa: E402

import run_glue  # noqa: E402
import run_pretrain  # noqa: E402
from modeling_gau import GAUError  # noqa: E402


WORDS = "the cat dog house garden sees likes builds leaves small green old quickly never often and or with".split()
SECONDS = 120  # for one case
# Written down as refused, but right as they are.
DISPUTED = {
    "forward-23": "A batch without labels has num_items_in_batch=0; its loss is 0 then, not a division by zero.",
    "pretraining-33": "Its package is there with the extra `test`.",
    "pretraining-36": "Rows of 32 tokens lie within ModernBERT's local attention, and a probe finds documents apart.",
    "lengths-02": "A classifier has the tied masked-LM head that it came from; a warning says what it was saved as.",
}
TINY = "hidden_size=16,intermediate_size=32,attention_key_size=8,num_hidden_layers=2"


def read_cases() -> list[dict]:
    return [json.loads(line) for line in (HERE / "cases.jsonl").read_text(encoding="utf-8").splitlines()]


# Places that cases name


def make_places(folder: Path) -> dict[str, str]:
    """Placeholder -> the path that takes its place: text, checkpoints and results, all of them tiny."""
    data = make_data(folder / "data")
    checkpoint, classifier = folder / "pretrained", folder / "classifier"
    small = "--max_seq_length 32 --per_device_train_batch_size 4 --use_cpu --disable_tqdm true"
    pretrain = f"--config_name gau-tiny --config_overrides {TINY} --text_unit line --vocab_size 300 --eval_lengths 32"
    fine_tune = f"--validation_file {data}/reviews.csv --text_column text --label_column label"
    start, train = f"--model_name_or_path {checkpoint}", f"--max_steps 2 {small} --train_file {data}"
    run_pretrain.main(f"{pretrain} --max_eval_tokens 512 --output_dir {checkpoint} {train}/text.txt".split())
    run_glue.main(f"{start} {fine_tune} --output_dir {classifier} {train}/reviews.csv".split())
    weights = reference.random_weights(False)
    lengths = folder / "lengths.csv"
    measure = f"{start} --corpus_file {data}/text.txt --lengths 16 32 --max_tokens 256"
    run_tool(f"modeling_gau.lengths {measure} --device cpu --output_file {lengths}".split())
    places = {
        "CHECKPOINT": checkpoint,
        "CLASSIFIER": classifier,
        "PORT": reference.write_port(folder / "port", reference.port_state(weights)),
        "TENSORFLOW": reference.write_tensorflow(folder / "tensorflow", reference.tensorflow_variables(weights)),
        "DATA": data,
        "LENGTHS_CSV": lengths,
    }
    return {name: str(path) for name, path in places.items()}


def make_data(folder: Path) -> Path:
    folder.mkdir()
    sentences = [
        " ".join(WORDS[(row * step + step) % len(WORDS)] for step in range(1, 8 + row % 30)) for row in range(200)
    ]
    rows = [f"{sentence},{'good' if row % 3 else 'bad'}" for row, sentence in enumerate(sentences[:60])]
    pairs = [
        f"{one},{other},{row % 6}"
        for row, (one, other) in enumerate(zip(sentences[:60], sentences[60:120], strict=True))
    ]
    texts = {
        "text.txt": sentences,
        "reviews.csv": ["text,label", *rows],
        "pairs.csv": ["first,second,score", *pairs],
        "docs.jsonl": [json.dumps({"text": sentence}) for sentence in sentences],
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# One case


def run_case(case: dict, places: dict[str, str], folder: Path) -> dict[str, str]:
    """Runs a case in a process of its own, in an empty folder.

    Returns:
        `outcome` ("refused", "works" or an exception's name), `message`, and `left`, what a refused command has left
        of its output.
    """
    folder.mkdir()
    set_up(case, places, folder)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(case, places, folder))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        return {"outcome": "hangs", "message": f"no answer within {SECONDS} seconds", "left": ""}
    result = folder / ".result.json"
    if not result.is_file():
        return {"outcome": f"exit code {process.exitcode}", "message": "", "left": ""}
    outcome = json.loads(result.read_text(encoding="utf-8"))
    is_given = any(name.startswith("out") for name in (case.get("files") or {}) | (case.get("copies") or {}))
    left = "command" in case and outcome["outcome"] == "refused" and (folder / "out").exists() and not is_given
    return outcome | {"left": "out" if left else ""}


def set_up(case: dict, places: dict[str, str], folder: Path) -> None:
    for name, source in (case.get("copies") or {}).items():
        shutil.copytree(fill(source, places), folder / name)
    files = {name: fill(text, places).encode() for name, text in (case.get("files") or {}).items()}
    files |= {name: base64.b64decode(text) for name, text in (case.get("base64_files") or {}).items()}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for name in case.get("remove") or ():
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(text: str, places: dict[str, str]) -> str:
    return re.sub(r"\{([A-Z_]+)\}", lambda match: places.get(match[1], match[0]), text)


def _run(case: dict, places: dict[str, str], folder: Path) -> None:
    torch.set_num_threads(1)  # those of the parent are not here
    os.chdir(folder)
    said = folder / ".said"
    # Descriptors for libraries, objects for Python, which may have others in their place.
    sys.stdout = sys.stderr = said.open("w", buffering=1, encoding="utf-8")
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    outcome, message = "works", ""
    try:
        if "python" in case:
            exec(compile(fill(case["python"], places), case["id"], "exec"), {"__name__": "__main__"})
        else:
            run_tool([fill(word, places) for word in case["command"]])
    except GAUError as error:
        outcome, message = "refused" if "python" in case else "GAUError", str(error)
    except SystemExit as exit:
        sys.stderr.flush()
        if exit.code not in (None, 0):
            lines = said.read_text(encoding="utf-8", errors="replace").strip()
            message = lines.rpartition("\n")[2]
            is_ours = exit.code == 2 and message.startswith("error: ") and "Traceback" not in lines
            outcome = "refused" if is_ours else f"exit code {exit.code}"
    except BaseException as error:
        traceback.print_exc()
        outcome, message = type(error).__name__, str(error)
    if outcome == "refused" and "\n" in message.strip():
        outcome = "refused in several lines"
    (folder / ".result.json").write_text(json.dumps({"outcome": outcome, "message": message}), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)


def run_tool(words: list[str]) -> None:
    sys.argv = words
    if words[0].endswith(".py"):
        sys.argv[0] = str(ROOT / words[0])
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def fault(case: dict, result: dict[str, str]) -> str:
    """What is wrong with an outcome; empty if it is the one that was written down."""
    if result["outcome"] != case["expect"]:
        return f"{result['outcome']}: {result['message']}"
    if case["expect"] == "refused":
        missing = [name for name in case["names"] if name.lower() not in result["message"].lower()]
        if missing:
            return f"the message does not name {', '.join(missing)}: {result['message']}"
    return f"left {result['left']} behind" if result["left"] else ""


# All of them


def main() -> int:
    wanted = set(sys.argv[1:])
    cases = [case for case in read_cases() if not wanted or case["id"] in wanted]
    rows, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        places = make_places(Path(folder))
        for number, case in enumerate(cases, start=1):
            place = Path(folder) / case["id"]
            begin = time.monotonic()
            result = run_case(case, places, place)
            wrong = fault(case, result)
            message = result["message"].replace(str(place), ".")
            for name, path in places.items():
                message = message.replace(path, f"{{{name}}}")
            message = message.replace(str(ROOT), "{ROOT}")
            rows.append(
                [case["id"], case["title"], case["expect"], result["outcome"], "no" if wrong else "yes", message]
            )
            if wanted:
                print((place / ".said").read_text(encoding="utf-8", errors="replace")[-3000:])
            print(
                f"{number:3d} {case['id']} {time.monotonic() - begin:5.1f} s  {wrong or 'as expected'}"[:400],
                flush=True,
            )
            shutil.rmtree(place)
    n_wrong = sum(row[4] == "no" for row in rows)
    print(f"{len(rows) - n_wrong} of {len(rows)} as expected, in {time.monotonic() - started:.0f} s")
    if not wanted:
        with (HERE / "results.csv").open("w", newline="", encoding="utf-8") as file:
            head = ["id", "title", "expected", "outcome", "as_expected", "message"]
            csv.writer(file, lineterminator="\n").writerows([head, *rows])
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
