# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Facts for the model card of a fine-tuned classifier.

They come from `run.json` alone, so that a study can rewrite a card with the results of all seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from ..runs.model_card import ModelCardFacts
from ..runs.run_record import describe_device, describe_precision
from ..runs.tables import cell_text, code_span, literal_text, markdown
from .baselines import MODEL, comparison, comparison_rows, in_words, mean_comparison
from .classes import class_table, confusion_table
from .tasks import BENCHMARKS, GlueTask


CONFUSION_PICTURE = "confusion.png"
_SPLITS = {"eval": "", "eval_mm": "mismatched_"}


def card_facts(
    record: Mapping[str, Any],
    config: PreTrainedConfig,
    task: GlueTask,
    output_dir: Path,
    runs: Mapping[int, Mapping[str, Any]] | None = None,
    repo_id: str | None = None,
    choices: Mapping[str, int] | None = None,
) -> ModelCardFacts:
    """Returns the facts of a run that trained.

    Args:
        record: content of its `run.json`.
        config: configuration of the model.
        output_dir: where the card goes.
        runs: seed -> record, for this run and those that differ only in the seed.
        repo_id: repository on the Hub, if it is not the record's.
        choices: what the evaluation rows chose before training -> how many it was chosen from.
    """
    arguments, results, base = record["arguments"], record["results"], record["base_model"] or {}
    repo_id, is_local = repo_id or record["hub_model_id"], bool(arguments["train_file"])
    metrics, benchmark = card_metrics(task, results), BENCHMARKS[task.benchmark]
    names = [name for _, name in sorted((int(index), name) for index, name in config.id2label.items())]
    seeds = {seed: card_metrics(task, other["results"]) for seed, other in (runs or {}).items()}
    compared = [other.get("baselines") for other in (runs or {}).values()] or [record.get("baselines")]
    by_seed = {name: {seed: values[name] for seed, values in seeds.items() if name in values} for name in metrics}
    return ModelCardFacts(
        model_name=(repo_id or arguments["run_name"] or output_dir.resolve().name).split("/")[-1],
        task="text-classification",
        config=config,
        repo_id=repo_id,
        example=local_example(record, task) if task.is_local else benchmark.example_of(task),
        purpose=purpose(record, task, names, compared) if task.is_local else None,
        license=arguments["license"],
        language=arguments["language"],
        base_model=base.get("name"),
        base_model_is_local=base.get("is_local", False),
        origin=base.get("origin"),
        citations=base.get("citations", ()),
        datasets=() if is_local else [benchmark.hub_dataset],
        data_description=describe_data(arguments, names, task),
        data_table=rows_table(record),
        n_parameters=results["train_parameters"],
        training=training_rows(record),
        task_metrics=metrics,
        split_of_metric={name: split_of(task, name) for name in metrics},
        seed_metrics=by_seed if len(seeds) > 1 else {},
        details=details(record, task, names, output_dir),
        eval_dataset=None if is_local else benchmark.hub_dataset,
        eval_dataset_name=evaluated_file(arguments) if is_local else benchmark.title,
        eval_config=None if is_local else task.name,
        eval_split=task.evaluation_splits["eval"],
        limits=[*limits(record, choices or {}), *(limits_of_data(record, task) if task.is_local else ())],
        software={
            name: record["software"][name]
            for name in ("transformers", "torch", "accelerate", "datasets", "tokenizers")
        },
    )


def evaluated_file(arguments: Mapping[str, Any]) -> str:
    file = Path(arguments["validation_file"] or arguments["train_file"]).name
    return f"{arguments['task_name']} (local files)" if arguments["task_name"] else f"the local file {file}"


def split_of(task: GlueTask, name: str) -> str:
    return task.evaluation_splits["eval_mm" if name.startswith(_SPLITS["eval_mm"]) else "eval"]


def card_metrics(task: GlueTask, results: Mapping[str, float]) -> dict[str, float]:
    """Returns metrics by name; mnli's second validation split gives `mismatched_accuracy`."""
    return {
        f"{_SPLITS[prefix]}{name}": float(results[f"{prefix}_{name}"])
        for prefix in task.evaluation_splits
        for name in task.metric_names
        if f"{prefix}_{name}" in results
    }


def training_rows(record: Mapping[str, Any]) -> dict[str, object]:
    arguments, results, hardware = record["arguments"], record["results"], record["hardware"]
    decay = arguments["layerwise_lr_decay"]
    return {
        "Rows": results["train_samples"],
        "Longest input (tokens)": arguments["max_seq_length"],
        "Epochs": round(results["epoch"], 2),
        "Steps": record["step"],
        "Rows per step": record["rows_per_step"],
        "Optimizer": f"{arguments['optim']}, betas ({arguments['adam_beta1']}, {arguments['adam_beta2']})",
        "Peak learning rate": arguments["learning_rate"],
        "Layer-wise decay of the learning rate": None if decay == 1 else decay,
        "Schedule": arguments["lr_scheduler_type"],
        "Warm-up (steps, or share below 1)": arguments["warmup_steps"],
        "Weight decay": arguments["weight_decay"],
        "Early stopping after evaluations without gain": arguments["early_stopping_patience"],
        "Precision": describe_precision(record),
        "Seed": arguments["seed"],
        "Hardware": describe_device(hardware),
        # The Trainer starts counting when a run is resumed.
        "Training time (seconds)": None if "resumed" in record else results["train_runtime"],
    }


def describe_data(arguments: Mapping[str, Any], names: Sequence[str], task: GlueTask) -> str:
    kind = "any number of the classes" if task.is_multi_label else "classes"
    what = "a score" if task.is_regression else f"{kind}: {', '.join(map(literal_text, names))}"
    benchmark = BENCHMARKS[task.benchmark]
    if not arguments["train_file"]:
        source = f"[{benchmark.title}](https://huggingface.co/datasets/{benchmark.hub_dataset})"
        return f"Trained on {task.name} of {source} ({what}). {task.input_format}".rstrip()
    of = f" with the columns of the {benchmark.title} task {task.name}" if arguments["task_name"] else ""
    file = Path(arguments["train_file"]).name
    return f"Trained on the local file {code_span(file)}{of} ({what}). {task.input_format}".rstrip()


def limits(record: Mapping[str, Any], choices: Mapping[str, int]) -> list[str]:
    arguments, sentences = record["arguments"], []
    if arguments["max_eval_samples"] is not None:
        limit = arguments["max_eval_samples"]
        sentences.append(f"Evaluated on at most {limit} rows, so the results are not comparable with others.")
    chosen = [f"{what} (of {number})" for what, number in choices.items() if number > 1]
    if arguments["load_best_model_at_end"] and record.get("evaluations") != 1:
        chosen.append("the training step")
    if chosen:
        sentences.append(
            f"The evaluation rows also chose {' and '.join(chosen)}: expect slightly worse results on other rows."
        )
    return sentences


# Files of one's own

# Language -> a text, and one to make a pair with. English is left to the card, except for pairs.
_EXAMPLES: Mapping[str, tuple[str, str]] = {
    "de": ("Der Zug nach Hamburg fährt heute zehn Minuten später.", "Der Zug hat Verspätung."),
    "es": ("El tren a Sevilla sale hoy diez minutos más tarde.", "El tren lleva retraso."),
    "fr": ("Le train pour Lyon part aujourd'hui dix minutes plus tard.", "Le train a du retard."),
}
_FEW_ROWS = 20


def local_example(record: Mapping[str, Any], task: GlueTask) -> str | tuple[str, str] | None:
    """A neutral text, or pair, in the language of the card."""
    (language, *_), rows = record["arguments"]["language"] or [None], record.get("rows", {})
    if language in ("zh", "zho") or (language is None and rows.get("train", {}).get("is_chinese")):
        return BENCHMARKS["clue"].example_of(task)
    if language in _EXAMPLES:
        first, second = _EXAMPLES[language]
        return (first, second) if len(task.text_columns) == 2 else first
    return BENCHMARKS["glue"].example_of(task)


def purpose(
    record: Mapping[str, Any], task: GlueTask, names: Sequence[str], compared: Sequence[Mapping[str, Any] | None]
) -> str:
    """What the model is for, and how good it, or the mean of its seeds, is beside the baselines.

    Args:
        compared: what the records of all seeds have as `baselines`.
    """
    text = "a pair of texts" if len(task.text_columns) == 2 else "a text"
    classes = ", ".join(map(literal_text, names))
    if task.is_regression:
        scores = record.get("rows", {}).get("train", {}).get("scores")
        known = " Scores of the training rows range from {0:g} to {2:g}.".format(*scores) if scores else ""
        sentences = [f"Gives {text} a score.{known}"]
    elif task.is_multi_label:
        sentences = [f"Gives {text} any number of these {len(names)} classes: {classes}."]
    else:
        sentences = [f"Sorts {text} into one of {len(names)} classes: {classes}."]
    if all(compared):
        sentences += [*how_good(record["baselines"], task), comparison(mean_comparison(compared), len(compared))]
    return " ".join(filter(None, sentences))


def how_good(compared: Mapping[str, Mapping[str, float]], task: GlueTask) -> list[str]:
    sentences = []
    for metric in (task.key_metric, "mean_squared_error") if task.is_regression else (task.key_metric,):
        values = {name: float(metrics[metric]) for name, metrics in compared.items()}
        others = [f"{name} {cell_text(value)}" for name, value in values.items() if name != MODEL and value == value]
        beside = f" ({', '.join(others)})" if others else ""
        sentences.append(f"Its {in_words(metric)} on the validation rows is {cell_text(values[MODEL])}{beside}.")
    return sentences


def rows_table(record: Mapping[str, Any]) -> str | None:
    """Rows and lengths of the splits; nothing for the tasks of a benchmark."""
    splits = {split: facts for split, facts in record.get("rows", {}).items() if split in ("train", "validation")}
    if not splits:
        return None
    header = ("Split", "Rows", "Shortest (tokens)", "Median", "Longest, after truncation")
    rows = [(split, facts["rows"], *facts["tokens"]) for split, facts in splits.items()]
    return markdown([header, *rows])


def details(record: Mapping[str, Any], task: GlueTask, names: Sequence[str], output_dir: Path) -> list[str]:
    """The comparison with baselines, the results by class and the confusion matrix, as far as there are any."""
    parts = []
    if record.get("baselines"):
        about = "Baselines that learned from the same training rows, measured on the same validation rows:"
        parts += [about, markdown(comparison_rows(record["baselines"]))]
    if record.get("classes"):
        parts += ["By class:", _literal(class_table(record["classes"]))]
    if record.get("confusion"):
        table = confusion_table(names, record["confusion"])
        is_matrix = len(table[0]) == len(names) + 1
        about = (
            "Validation rows by true class (down) and predicted class (across):"
            if is_matrix
            else "Most frequent mistakes:"
        )
        parts += [about, _literal(table)]
        if (output_dir / CONFUSION_PICTURE).is_file():
            parts.append(f"![Confusion matrix of the validation rows]({CONFUSION_PICTURE})")
    return parts


def _literal(table: Sequence[Sequence[object]]) -> str:
    """A Markdown table in which names of classes are no markup."""
    return markdown([[literal_text(cell) if isinstance(cell, str) else cell for cell in row] for row in table])


def limits_of_data(record: Mapping[str, Any], task: GlueTask) -> list[str]:
    sentences = [
        "Trained and measured on rows like those described above. Results may be worse on other kinds of text."
    ]
    if not (task.is_regression or task.is_multi_label):
        sentences.append("Every input gets one of the classes, even if none fits.")
    counts = {row["class"]: row["train"] for row in record.get("classes", ())}
    few = [name for name, rows in counts.items() if rows is not None and rows < _FEW_ROWS]
    if few:
        sentences.append(f"Fewer than {_FEW_ROWS} training rows: {', '.join(map(literal_text, few))}.")
    return sentences
