# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Recipes, and the parser that lets the command line override them."""

import json
import os
import re
import sys
import types
from argparse import (
    Action,
    ArgumentDefaultsHelpFormatter,
    ArgumentError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from ..configuration_gau import GAUError
from .options import describe_unknown_options, fail, missing_recipe, program_name, unknown_key


# Aliases of aliases multiply: ten lines of YAML can stand for more values than any memory holds.
_MOST_ALIASED_VALUES = 10_000


class _ArgumentParser(HfArgumentParser):
    def error(self, message):
        fail(message)


class RecipeLoader(yaml.SafeLoader):
    """Reads plain scalars as YAML 1.2 does: `5e-4` is a number and `no` is a word.

    PyYAML follows YAML 1.1, where the first is a string and `eval_strategy: no` means False.

    Raises:
        ValueError: a key is repeated or no scalar, or there is too much depth or too much behind aliases.
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

    def __init__(self, stream):
        super().__init__(stream)
        self._values, self._values_of = 0, {}  # counted with what aliases stand for

    def compose_node(self, parent, index):
        alias, before = self.check_event(yaml.AliasEvent), self._values
        node = super().compose_node(parent, index)
        if alias and node not in self._values_of:
            raise GAUError("an alias stands within the value that it names")
        self._values += self._values_of[node] if alias else 1
        self._values_of.setdefault(node, self._values - before)
        if alias and self._values > _MOST_ALIASED_VALUES:
            raise GAUError(f"its aliases stand for more than {_MOST_ALIASED_VALUES:,} values: write them out")
        return node

    def get_single_data(self):
        try:
            return super().get_single_data()
        except RecursionError:
            raise GAUError("it is nested too deeply") from None

    def construct_mapping(self, node, deep=False):
        return _unique_keys(super().construct_pairs(node, deep=True))


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Shows defaults and keeps the line breaks of a script's description."""


def parse_arguments(
    argument_classes: Sequence[type], argv: list[str] | None = None, description: str | None = None
) -> tuple:
    """Parses the command line and the recipe that `--config` names into one instance of each class.

    A recipe is a YAML or JSON file of flat keys, each the name of an argument; relative paths in it start at the
    working directory. The command line overrides it. Its values go through the same parser as the words of a command
    line, so types and choices are checked alike. Null stands for a default of None. Mappings, and lists
    where a command line has no form for them, are taken as they are.

    Args:
        argument_classes: dataclasses whose fields are the arguments; no two may share a name.
        argv: the command line without the program's name; `sys.argv[1:]` by default.
        description: the script's description in `--help`.

    Returns:
        One instance of each class, in the order given.

    Raises:
        ValueError: the recipe is missing or cannot be read, a key is unknown (the message names the nearest one) or
            repeated, a value has the wrong type or is not a choice; or an argument class refuses a value.
        SystemExit: the command line itself is wrong, as argparse reports it.
    """
    parser = _ArgumentParser(
        argument_classes,
        prog=program_name(),
        description=description,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    for action in parser._actions:  # `--flag` alone for `bool | None`, where transformers asks for a value
        if action.type is string_to_bool and action.nargs is None:
            action.nargs, action.const = "?", True
    parser.add_argument("--config", metavar="RECIPE", help="YAML or JSON recipe with values for these arguments.")
    argv = sys.argv[1:] if argv is None else list(argv)
    path = _recipe_path(argv)
    recipe = {} if path is None else read_recipe(path)
    stated = _parse_recipe(recipe, path, parser, argument_classes)
    namespace, unknown = parser.parse_known_args(argv, Namespace(**vars(stated)))
    if unknown:
        parser.error(describe_unknown_options(unknown, parser))
    if path is not None and int(os.environ.get("RANK", "0")) == 0:
        overridden = sorted(key for key in recipe if getattr(namespace, key) != getattr(stated, key))
        note = f"; the command line overrides {', '.join(overridden)}" if overridden else ""
        print(f"Recipe {path}: {len(recipe)} values{note}.")
    try:
        return tuple(
            cls(**{entry.name: getattr(namespace, entry.name) for entry in fields(cls) if entry.init})
            for cls in argument_classes
        )
    except ValueError as error:  # TrainingArguments refuses some values in its own way
        raise GAUError(str(error)) from error


def _recipe_path(argv: list[str]) -> Path | None:
    finder = _ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    name = finder.parse_known_args(argv)[0].config
    if name is None:
        return None
    path = Path(name).expanduser()
    if problem := missing_recipe(path):
        raise GAUError(problem)
    return path


def read_recipe(path: Path) -> dict[str, Any]:
    """The values of a YAML or JSON file; raises ValueError if it cannot be read or is not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            recipe = json.loads(text, object_pairs_hook=_unique_keys)
        else:
            recipe = yaml.load(text, Loader=RecipeLoader)  # a SafeLoader
    except RecursionError:
        raise GAUError(f"Recipe {path} cannot be read: it is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise GAUError(f"Recipe {path} cannot be read: {error}") from error
    if recipe is None:
        return {}
    if not isinstance(recipe, dict):
        raise GAUError(f"Recipe {path} must be a mapping of arguments to values, got a {type(recipe).__name__}.")
    return recipe


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if any(isinstance(key, (list, dict)) for key in keys):
        raise GAUError("a key must be a word, not a list or mapping")
    if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
        raise GAUError(f"{', '.join(repeated)} given more than once")
    return dict(pairs)


def _parse_recipe(
    recipe: dict[str, Any], path: Path | None, parser: HfArgumentParser, argument_classes: Sequence[type]
) -> Namespace:
    """Values of all arguments with the recipe alone; arguments that it gives are no longer required."""
    hints = {}
    for cls in argument_classes:
        own = get_type_hints(cls)
        hints |= {entry.name: _kinds(own[entry.name]) for entry in fields(cls) if entry.init}
    if problem := unknown_key(path, recipe, hints):
        raise GAUError(problem)
    # Flags such as --no_flag come after --flag and share its name.
    actions = {action.dest: action for action in reversed(parser._actions)}
    required = [action for action in parser._actions if action.required]
    parser.exit_on_error = False
    for action in required:
        action.required = False
    try:
        as_they_are = {key: value for key, value in recipe.items() if _is_structure(value, actions[key], hints[key])}
        rest = {key: value for key, value in recipe.items() if key not in as_they_are}
        words = [word for key, value in rest.items() for word in _words(actions[key], value, hints[key])]
        namespace, unexpected = parser.parse_known_args(words)
        if unexpected:
            raise GAUError(f"unexpected {' '.join(unexpected)}: a value must not begin with a dash.")
        return Namespace(**vars(namespace) | as_they_are)
    except (ArgumentError, ValueError) as error:
        raise GAUError(f"Recipe {path}: {error}") from error
    finally:
        parser.exit_on_error = True
        for action in required:
            action.required = action.dest not in recipe


def _kinds(hint: Any) -> set[type]:
    """The types that a field may have: `{str, list, NoneType}` of `str | list[str] | None`."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return {get_origin(option) or option for option in options}


def _is_structure(value: Any, action: Action, kinds: set[type]) -> bool:
    """Whether a value has no form on the command line: a list for `str | list`, a mapping for `dict` alone."""
    if isinstance(value, dict):
        return dict in kinds and str not in kinds
    return isinstance(value, list) and list in kinds and action.nargs != "+"


def _words(action: Action, value: Any, kinds: set[type]) -> list[str]:
    """The words of a command line that give an argument the value from a recipe."""
    option = f"--{action.dest}"
    if value is None:
        if action.default is not None:
            raise GAUError(f"argument {option}: expected a value, got null.")
        return []
    if isinstance(value, list) and action.nargs != "+":
        raise GAUError(f"argument {option}: expected one value, got the list {value}.")
    items = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and dict in kinds:
        return [f"{option}={json.dumps(value)}"]
    if any(isinstance(item, (dict, list)) for item in items):
        raise GAUError(f"argument {option}: expected a value, got {value!r}.")
    if action.type is str and not all(isinstance(item, str) for item in items):
        raise GAUError(f"argument {option}: expected text, got {value!r}: quote it if it is meant as text.")
    words = [json.dumps(item) if isinstance(item, bool) else str(item) for item in items]
    return [option, *words] if isinstance(value, list) else [f"{option}={words[0]}"]
