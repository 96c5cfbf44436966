# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Recipes, whose values the command line may override, and the parser of both."""

import difflib
import json
import os
import re
import sys
import types
from argparse import (
    Action,
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser


class _RecipeLoader(yaml.SafeLoader):
    """Reads plain scalars as YAML 1.2 does: `5e-4` is a number and `no` is a word; a repeated key is an error.

    PyYAML follows YAML 1.1, where the first is a string and `eval_strategy: no` means False.
    """

    yaml_implicit_resolvers: ClassVar[dict] = {
        None: [
            (f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"))
            for name, pattern in {
                "null": r"~|null|Null|NULL|",
                "bool": r"true|True|TRUE|false|False|FALSE",
                "int": r"[-+]?(0|[1-9][0-9]*)",
                "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            }.items()
        ]
    }

    def construct_mapping(self, node, deep=False):
        return _unique_keys(super().construct_pairs(node, deep=True))


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Shows defaults, and keeps the lines of a script's description."""


def parse_arguments(
    argument_classes: Sequence[type], argv: list[str] | None = None, description: str | None = None
) -> tuple:
    """Parses the command line, and the recipe that `--config` names, into one instance of each class.

    A recipe is a YAML or JSON file of flat keys, each the name of an argument; paths in it are relative to the working
    directory, as on the command line. Its values stand where the command line says nothing (a required argument may be
    given there alone) and are held to the arguments' types: `5e-4` and `"5e-4"` are both a number, a number in place
    of a word or `yes` in place of a number is an error.

    Args:
        argument_classes: dataclasses whose fields are the arguments; no two may share a name.
        argv: the command line without the program's name; `sys.argv[1:]` by default.
        description: what `--help` says of the script.

    Returns:
        One instance of each class, in the order given.

    Raises:
        ValueError: the recipe is missing, cannot be read, holds an unknown key (the nearest known one is named) or a
            value of another type than the argument's; or an argument class refuses a value.
        SystemExit: the command line itself is wrong, as argparse reports it.
    """
    parser = HfArgumentParser(
        argument_classes, description=description, formatter_class=_HelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", metavar="RECIPE", help="YAML or JSON recipe with values for these arguments.")
    argv = sys.argv[1:] if argv is None else list(argv)
    recipe_path = _recipe_path(argv)
    recipe = {} if recipe_path is None else _recipe_values(recipe_path, parser, argument_classes)
    for action in parser._actions:
        action.required = action.required and action.dest not in recipe
    # Values of the namespace stand before the parser's defaults and, unlike them, are not converted once more.
    namespace, unknown = parser.parse_known_args(argv, Namespace(**recipe))
    if unknown:
        parser.error(_describe_unknown_options(unknown, parser))
    if recipe_path is not None:
        _report_recipe(recipe_path, recipe, namespace)
    return tuple(
        cls(**{entry.name: getattr(namespace, entry.name) for entry in fields(cls) if entry.init})
        for cls in argument_classes
    )


def _recipe_path(argv: list[str]) -> Path | None:
    finder = ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    name = finder.parse_known_args(argv)[0].config
    if name is None:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        known = [str(sibling) for sibling in path.parent.glob("*") if sibling.suffix in (".yaml", ".yml", ".json")]
        raise ValueError(f"--config {name}: there is no such recipe file.{_nearest(str(path), known)}")
    return path


def _recipe_values(path: Path, parser: HfArgumentParser, argument_classes: Sequence[type]) -> dict[str, Any]:
    hints = {}
    for cls in argument_classes:
        own = get_type_hints(cls)
        hints |= {entry.name: own[entry.name] for entry in fields(cls) if entry.init}
    actions = {action.dest: action for action in reversed(parser._actions)}
    values = {}
    for key, value in read_recipe(path).items():
        if key not in hints:
            raise ValueError(f"Recipe {path}: there is no argument {key!r}.{_nearest(str(key), hints)}")
        values[key] = _recipe_value(path, actions[key], value, hints[key])
    return values


def read_recipe(path: Path) -> dict[str, Any]:
    """The values of a YAML or JSON file as they stand there; raises ValueError where it cannot be read or is no
    mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            recipe = json.loads(text, object_pairs_hook=_unique_keys)
        else:
            recipe = yaml.load(text, Loader=_RecipeLoader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"Recipe {path} cannot be read: {error}") from error
    if recipe is None:
        return {}
    if not isinstance(recipe, dict):
        raise ValueError(f"Recipe {path} must be a mapping of arguments to values, got a {type(recipe).__name__}.")
    return recipe


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} given more than once")
    return dict(pairs)


def _recipe_value(path: Path, action: Action, value: Any, hint: Any) -> Any:
    try:
        converted = _convert(value, hint)
    except (TypeError, ValueError) as error:
        quote = " Quote it if it is meant as a word." if str in _options(hint) else ""
        raise ValueError(f"Recipe {path}: {action.dest} must be {_describe(hint)}, got {value!r}.{quote}") from error
    if action.choices is not None and converted is not None and converted not in action.choices:
        allowed = ", ".join(map(str, action.choices))
        raise ValueError(f"Recipe {path}: {action.dest} must be one of {allowed}, got {value!r}.")
    return converted


def _convert(value: Any, hint: Any) -> Any:
    """Returns `value`, as YAML gave it, in the type that `hint` asks for; raises TypeError or ValueError."""
    options = _options(hint)
    if any(_fits(value, option) for option in options):
        return value
    for option in options:
        kind = get_origin(option) or option
        if kind is list and not isinstance(value, dict):
            item_hint = (get_args(option) or (Any,))[0]
            return [_convert(item, item_hint) for item in (value if isinstance(value, list) else [value])]
        if kind is float and type(value) is int:
            return float(value)
        if isinstance(value, str) and kind in _WORD_PARSERS:
            return _WORD_PARSERS[kind](value)
        if isinstance(value, str) and isinstance(kind, type) and issubclass(kind, Enum):
            return kind(value)
    raise TypeError(f"{value!r} is not {_describe(hint)}")


def _options(hint: Any) -> tuple:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, option: Any) -> bool:
    if get_origin(option) is Literal:
        return any(type(value) is type(entry) and value == entry for entry in get_args(option))
    if (get_origin(option) or option) is dict:
        return isinstance(value, dict)
    return option is Any or (option is type(value) and option is not list)


def _bool_from_word(word: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if word.lower() not in words:
        raise ValueError(f"{word!r} is neither true nor false")
    return words[word.lower()]


_WORD_PARSERS = {int: int, float: float, bool: _bool_from_word}


def _describe(hint: Any) -> str:
    names = {type(None): "null", bool: "true or false", int: "an integer", float: "a number", str: "a word"}
    described = []
    for option in _options(hint):
        kind = get_origin(option) or option
        if kind is list:
            described.append("a list" + "".join(f" of items that are {_describe(item)}" for item in get_args(option)))
        elif kind is dict:
            described.append("a mapping")
        elif kind is Literal:
            described.append(" or ".join(map(repr, get_args(option))))
        elif isinstance(kind, type) and issubclass(kind, Enum):
            described.append(" or ".join(repr(entry.value) for entry in kind))
        else:
            described.append(names.get(kind, str(kind)))
    return " or ".join(described)


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name.replace("-", "_"), list(known), n=1)
    return f" Did you mean {matches[0]}?" if matches else ""


def _describe_unknown_options(unknown: list[str], parser: ArgumentParser) -> str:
    options = [option for action in parser._actions for option in action.option_strings]
    lines = []
    for word in unknown:
        if word.startswith("--"):
            name = word.partition("=")[0]
            close = difflib.get_close_matches(name, options, n=1)
            lines.append(f"there is no option {name}" + (f" (did you mean {close[0]}?)" if close else ""))
        elif word.endswith((".yaml", ".yml", ".json")):
            lines.append(f"{word} stands alone (a recipe is given as --config {word})")
    return "; ".join(lines) or f"unexpected {' '.join(unknown)}"


def _report_recipe(path: Path, recipe: dict[str, Any], namespace: Namespace) -> None:
    if int(os.environ.get("RANK", "0")) > 0:
        return
    overridden = sorted(key for key, value in recipe.items() if getattr(namespace, key) != value)
    note = f", of which the command line overrides {', '.join(overridden)}" if overridden else ""
    print(f"Recipe {path}: {len(recipe)} values{note}.")
