# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which output of a classifier is which class: by the names in its configuration, and by its results where those are
silent. A map that is swapped is an error here, where it would be a bad score."""

import math
import re
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedConfig
from transformers.utils import logging

from .tasks import GlueTask, nearest_of


logger = logging.get_logger(__name__)

# When a permutation of classes is no accident: see check_label_map.
_LOG_P = math.log(1e-6)
_FEWEST_ROWS = 100
_LEAST_GAIN = 0.25


# By name


def saved_label_names(config: PreTrainedConfig) -> tuple[str, ...] | None:
    """The classes of a checkpoint by id; None when it has no sequence classifier.

    Raises:
        ValueError: the ids have gaps, a name is there twice, or `id2label` and `label2id` contradict each other.
    """
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return None
    names, by_name = config.id2label, {name: int(index) for name, index in (config.label2id or {}).items()}
    shown = f"The checkpoint's configuration has id2label {names}"
    if sorted(names) != list(range(len(names))) or len(set(names.values())) < len(names):
        raise ValueError(f"{shown}: the ids must be 0, 1, ... and each name there once. Correct its config.json.")
    labels = tuple(names[index] for index in range(len(names)))
    # transformers fills in one of the two maps without the other: LABEL_0 ... then say nothing.
    if not is_unnamed(sorted(by_name, key=by_name.get)) and by_name:
        if any(by_name.get(name) != index for index, name in enumerate(labels)):
            raise ValueError(
                f"{shown} and label2id {by_name}, which contradict each other. Correct its config.json by what the "
                "classifier was trained on."
            )
    return labels


def is_unnamed(names: Sequence[str]) -> bool:
    """Whether names are the LABEL_0, LABEL_1, ... of transformers, which say nothing."""
    return list(names) == [f"LABEL_{index}" for index in range(len(names))]


def model_label_names(
    task: GlueTask, saved: Sequence[str] | None, do_train: bool, ignore_mismatched_sizes: bool = False
) -> tuple[str, ...]:
    """The classes in the order of the model's outputs, spelled as the task does.

    That is the task's order, unless the checkpoint has a classifier for the same classes in another order. Names are
    the same if they differ in capitals, spaces, hyphens or underscores at most ("NOT ENTAILMENT", "not_entailment").

    Args:
        task: of the data.
        saved: classes of the checkpoint's classifier, None when there is none.
        do_train: whether the classifier will be trained.
        ignore_mismatched_sizes: whether a classifier of another size may be replaced.

    Raises:
        ValueError: the checkpoint's classifier has other classes and is not going to learn these.
    """
    if saved is None:
        return task.label_names
    if is_unnamed(saved) and len(saved) == len(task.label_names):
        if not do_train and set(saved) != set(task.label_names) and not task.is_regression:
            logger.warning(
                f"The checkpoint names its classes {', '.join(saved)}, which says nothing about their order. They are "
                f"taken for {', '.join(task.label_names)}, in this order."
            )
        return task.label_names
    matched = match_names(saved, task.label_names)
    if matched is not None:
        return matched
    what = f"The checkpoint's classifier knows {', '.join(saved)}; {task.name} has {', '.join(task.label_names)}"
    if not do_train:
        hints = (nearest_of(name, task.label_names) for name in saved if name not in task.label_names)
        raise ValueError(
            f"{what}{next(filter(None, hints), '')}. Give a checkpoint that was trained on {task.name}, correct the "
            "names in its config.json, or add --do_train."
        )
    if len(saved) != len(task.label_names) and not ignore_mismatched_sizes:
        raise ValueError(f"{what}. Add --ignore_mismatched_sizes to start a new classifier on top of its encoder.")
    return task.label_names


def match_names(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...] | None:
    """`names` as they are spelled in `others`, if both are the same names but for spelling; else None."""
    if set(names) == set(others):
        return tuple(names)
    by_key = {_key(name): name for name in others}
    keys = [_key(name) for name in names]
    alike = len(by_key) == len(others) == len(names) and set(keys) == set(by_key)
    return tuple(by_key[key] for key in keys) if alike else None


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


# By results


def check_label_map(
    task: GlueTask, label_names: Sequence[str], predictions: np.ndarray, references: np.ndarray, accept: bool = False
) -> None:
    """Raises ValueError where the results of an evaluation show that a classifier has its classes in another order.

    The rule is meant to keep silent in doubt. Every class k is led to the class that is predicted most often in its
    rows, as compared with its share of all predictions. Each cycle in which that ends is a set of classes that may be
    exchanged, and it is refused when all of these hold for the rows and the predictions of its classes:

    - they are right less often than by chance, which is what the same labels and the same predictions would give in a
      random order: the probability of so few or fewer is at most 1e-6;
    - with the classes moved along the cycle they are right more often than by chance in this sense, of a probability
      of at most 1e-6, and more often by a quarter at least of what chance leaves to be gained;
    - there are 100 rows or more. (Some honest models stay far below chance on the 71 rows of WNLI, whose sentences
      have the opposite labels in its training rows.)

    The probabilities are those of a binomial distribution, by the bound of Chernoff and Hoeffding
    P <= exp(-n KL(observed share || chance)), which is never too low.

    Args:
        task: of the data. Of regressions and multi-label problems nothing is checked.
        label_names: the names of the ids in `predictions` and `references`, in the order of the model's outputs.
        predictions, references: (rows,) class ids.
        accept: whether to go on with a warning.
    """
    if task.is_regression or task.is_multi_label:
        return
    counts = np.zeros((len(label_names), len(label_names)))
    np.add.at(counts, (np.asarray(references), np.asarray(predictions)), 1)
    cycles = [cycle for cycle in _cycles(_likely_class(counts)) if _is_exchanged(counts, cycle)]
    if not cycles:
        return
    moved = {true: found for cycle in cycles for true, found in cycle.items()}
    true, found = list(moved), list(moved.values())
    pairs = ", ".join(f"{label_names[true]} is found as {label_names[found]}" for true, found in moved.items())
    message = (
        f"The classes of the checkpoint look exchanged: {pairs}. Of the {counts[true].sum():.0f} rows of these "
        f"classes {counts[true, true].sum():.0f} are right, which is less than by chance; with the classes exchanged, "
        f"{counts[true, found].sum():.0f} would be."
    )
    if accept:
        logger.warning(f"{message} Accepted by --accept_label_map.")
        return
    raise ValueError(
        f"{message} Correct id2label and label2id in the checkpoint's config.json, or the labels of the data; or add "
        "--accept_label_map if it is the model that is so bad."
    )


def _likely_class(counts: np.ndarray) -> list[int]:
    """Class k -> the one whose predictions have the largest part in rows of k, or k itself where it has no rows."""
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    return [int(row.argmax()) if row.any() else number for number, row in enumerate(shares)]


def _cycles(successors: Sequence[int]) -> list[dict[int, int]]:
    """The cycles of two classes or more in which k -> successors[k] ends, each as a map."""
    cycles, seen = [], set()
    for number in range(len(successors)):
        path = {}
        while number not in path and number not in seen:
            path[number] = number = successors[number]
        if number in path:
            ring = list(path)[list(path).index(number) :]
            cycles.append({member: successors[member] for member in ring})
        seen.update(path)
    return [cycle for cycle in cycles if len(cycle) > 1]


def _is_exchanged(counts: np.ndarray, cycle: dict[int, int]) -> bool:
    rows, true = counts.sum(), list(cycle)
    found = list(cycle.values())
    if counts[true].sum() < _FEWEST_ROWS:
        return False
    true_shares, found_shares = counts.sum(axis=1) / rows, counts.sum(axis=0) / rows
    right, chance = counts[true, true].sum(), true_shares[true] @ found_shares[true]
    would_be, moved_chance = counts[true, found].sum(), true_shares[true] @ found_shares[found]
    gain = (would_be - moved_chance * rows) / (counts[true].sum() - moved_chance * rows)
    return (
        right < chance * rows
        and gain >= _LEAST_GAIN
        and _log_tail(right, rows, chance) <= _LOG_P
        and _log_tail(would_be, rows, moved_chance) <= _LOG_P
    )


def _log_tail(hits: float, rows: float, chance: float) -> float:
    """Log of a bound on the probability that a binomial number is at least as far from its mean as `hits`."""
    share = hits / rows
    terms = ((share, chance), (1 - share, 1 - chance))
    return -rows * sum(part * math.log(part / expected) for part, expected in terms if part > 0)
