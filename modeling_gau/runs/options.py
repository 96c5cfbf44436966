# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The options of a program, read from source code: help, and an answer to a wrong option, before anything is imported.

Importing PyTorch and transformers takes seconds. This file imports the standard library, and PyYAML for a recipe. A
script runs it by its path, since importing it as a module imports the package; for `python -m modeling_gau.<tool>`,
the package begins with it.
"""

import argparse
import ast
import builtins
import difflib
import importlib.util
import os
import re
import runpy
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NoReturn, Union, get_args, get_origin


# Class of ours -> the group of --help that shows its options.
_GROUPS: Mapping[str, str] = {
    "ModelArguments": "Model",
    "DataArguments": "Data",
    "GlueArguments": "Data and task",
    "StudyArguments": "Several runs",
    "PretrainingArguments": "Training",
    "GlueTrainingArguments": "Training",
    "RunArguments": "Output",
    "CardArguments": "Hub",
}
_OTHERS = "Other arguments of transformers.TrainingArguments"
_TITLES = (
    "Options",
    "Model",
    "Data",
    "Data and task",
    "Masking and lengths",
    "Training",
    "Several runs",
    "Output",
    "Hub",
    _OTHERS,
)

# Options that stand in another group than the rest of their class, in the order of --help. Those of transformers that
# --help shows have a description here; None keeps that of the class. The rest is shown by --help-all.
_PLACES: Mapping[str, Mapping[str, str | None]] = {
    "Masking and lengths": dict.fromkeys(
        (
            "max_seq_length packing long_documents mixed_lengths mixed_length_weights length_schedule eval_lengths "
            "mlm_probability eval_mlm_probability mask_replace_prob random_replace_prob whole_word_masking "
            "word_segmenter"
        ).split()
    ),
    "Training": {
        "num_train_epochs": "Passes over the training data.",
        "max_steps": "Training steps; overrides the epochs.",
        "per_device_train_batch_size": "Rows in a training batch on each device.",
        "gradient_accumulation_steps": "Batches per device in one step.",
        "per_device_eval_batch_size": "Rows in an evaluation batch on each device.",
        "learning_rate": None,
        "lr_scheduler_type": "How the learning rate changes.",
        "warmup_steps": None,
        "optim": None,
        "weight_decay": None,
        "max_grad_norm": "Largest norm of the gradient; larger gradients are scaled down.",
        "bf16": "Compute in bfloat16.",
        "fp16": "Compute in float16; needs a GPU.",
        "gradient_checkpointing": "Save memory by computing activations twice.",
        "use_cpu": "Run on the CPU even if there is a GPU.",
        "seed": "Random seed.",
    },
    "Output": {
        "output_dir": "Folder of the trained model, its checkpoints and reports.",
        "overwrite_output_dir": None,
        "logging_steps": "Steps between log lines; below 1, a share of all steps.",
        "eval_strategy": "When to evaluate during training.",
        "eval_steps": "Steps between evaluations; logging_steps by default.",
        "save_strategy": "When to save a checkpoint.",
        "save_steps": "Steps between checkpoints; below 1, a share of all steps.",
        "save_total_limit": "Keep only the last N checkpoints.",
        "load_best_model_at_end": "Keep the best model, not the last.",
        "metric_for_best_model": "Metric that decides which model is best.",
        "resume_from_checkpoint": "Checkpoint to resume: a folder, last, or auto (the last one, if there is any).",
        "report_to": "Loggers: tensorboard, trackio, wandb, ..., all or none.",
    },
    "Hub": {
        "push_to_hub": "Publish the model on the Hub.",
        "hub_model_id": "Name on the Hub, owner/name; by default that of output_dir.",
        "hub_private_repo": "Make a new repository private.",
    }
    | dict.fromkeys(("cache_dir", "revision", "token", "trust_remote_code")),
}
# What a command line without a recipe must say: the class that asks for it, what is missing, and options that say it.
_NEEDED: Sequence[tuple[str, str, frozenset[str]]] = (
    (
        "ModelArguments",
        "No model: give --model_name_or_path for a checkpoint, or --config_name or --model_type for a new model.",
        frozenset(("model_name_or_path", "config_name", "model_type", "mnli_checkpoint", "resume_from_checkpoint")),
    ),
    (
        "GlueArguments",
        "No data: give --task_name, or --train_file, --validation_file or --test_file.",
        frozenset(("task_name", "train_file", "validation_file", "test_file")),
    ),
)
_RARE = ("logging_nan_inf_filter",)
_LONGEST_LIST = 16  # values of an option that --help lists


def fail(message: str, notes: Iterable[str] = ()) -> NoReturn:
    """Ends the program with an error of one line, and what to do about it in others."""
    print(f"error: {' '.join(message.split())}", *notes, sep="\n", file=sys.stderr)
    sys.exit(2)


class ArgumentParser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, without pages of usage."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **{"prog": program_name()} | kwargs)

    def parse_args(self, args=None, namespace=None):
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(describe_unknown_options(unknown, self))
        return parsed

    def error(self, message: str) -> NoReturn:
        fail(message)


def program_name() -> str | None:
    """How this program is called where that is by `python -m`; None for a script, whose name argparse knows."""
    module = vars(sys.modules["__main__"]).get("__spec__")  # a debugger leaves it out
    return module and f"python -m {module.name.removesuffix('.__main__')}"


def describe_unknown_options(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Says which of the words that a parser did not understand are options, and which ones are near."""
    options = [option for action in parser._actions for option in action.option_strings]
    lines = []
    for word in unknown:
        if word.startswith("--"):
            name = word.partition("=")[0]
            close = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), options, n=1)
            lines.append(f"there is no option {name}" + (f" (did you mean {close[0]}?)" if close else ""))
        elif word.endswith((".yaml", ".yml", ".json")):
            lines.append(f"{word} stands alone (give a recipe as --config {word})")
    return "; ".join(lines) or f"unexpected {' '.join(unknown)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the nearest of the known names, to end an error message with; empty if none is near."""
    matches = difflib.get_close_matches(name.replace("-", "_"), list(known), n=1)
    return f" Did you mean {matches[0]}?" if matches else ""


def missing_recipe(path: Path) -> str | None:
    """What to say of a recipe that does not exist."""
    if path.is_file():
        return None
    known = [str(sibling) for sibling in path.parent.glob("*") if sibling.suffix in (".yaml", ".yml", ".json")]
    return f"--config {path}: no such recipe file.{did_you_mean(str(path), known)}"


def unknown_key(path: Path, keys: Iterable[object], known: Iterable[str]) -> str | None:
    """What to say of a recipe's first key that is no argument."""
    for key in keys:
        if key not in known:
            return f"Recipe {path}: there is no argument {key!r}.{did_you_mean(str(key), known)}"
    return None


# What reading raises at sources of another form, or if a package is missing: the program itself says what is wrong.
_UNREADABLE = (AttributeError, ImportError, KeyError, NameError, OSError, SyntaxError, TypeError, ValueError)


def answer_module(argv: Sequence[str], original: Sequence[str]) -> None:
    """As [`answer`], for a tool of this package that Python is about to run.

    Args:
        argv: `sys.argv` at that moment: -m and the words after the module's name.
        original: `sys.orig_argv`, which has that name.
    """
    name = original[-len(argv)].removeprefix("-m")
    package, *parts = name.split(".")
    if package != __name__.partition(".")[0]:
        return
    path = Path(__file__).parents[1].joinpath(*parts)
    path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    if not parts:
        runpy.run_path(str(path), run_name="__main__")
        sys.exit()
    program = f"python -m {name}"
    try:
        source, _ = _read(path).find("main")
        parser = read_parser(source, program)
    except _UNREADABLE:
        return
    if parser is None:
        answer(source.path, argv[1:], program)
    else:
        parser.parse_args(argv[1:])


def answer(script: str | Path, argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Answers --help, --help-all, what a script does not know (an option, a value, a key of a recipe) and what is
    missing, and ends the program; otherwise returns at once. Options are those of the classes that the script hands to
    `parse_arguments`."""
    script = Path(script)
    try:
        options = read_options(script)
    except _UNREADABLE:
        return
    # Each option may be written with dashes too.
    words = [_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)]
    parser = ArgumentParser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--help_all", action="store_true")
    parser.add_argument("--config")
    for option in options.values():
        option.add_to(parser)
    given, unknown = parser.parse_known_args(words)
    if "help" in given or "help_all" in given:
        try:
            width = shutil.get_terminal_size().columns
            print(help_text(script, program or script.name, options, "help_all" in given, width), flush=True)
        except BrokenPipeError:  # --help | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit()
    if unknown:
        fail(describe_unknown_options(unknown, parser))
    if "config" in given:
        path = Path(given.config).expanduser()
        if problem := missing_recipe(path) or unknown_key(path, _recipe_keys(path), options):
            fail(problem)
    classes = {option.owner for option in options.values()}
    for name, message, any_of in _NEEDED:
        if name in classes and "config" not in given and not any_of & vars(given).keys():
            fail(f"{message} --help shows examples.")


def _recipe_keys(path: Path) -> list[str]:
    """The keys of a recipe; none if it cannot be read, for the run says why."""
    import yaml  # here, since few commands need it

    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, RecursionError, ValueError, yaml.YAMLError):
        return []
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)]


def _with_underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word


# Reading


@dataclass(frozen=True)
class Option:
    """A field of a dataclass of arguments, read as `transformers.HfArgumentParser` makes an option of it.

    Args:
        owner: the class that defines it.
        kind: bool, int, float or str.
        nargs: as in argparse.
        choices: the values it may have; empty where that is any of its kind.
        help: a description; empty where there is none.
    """

    name: str
    owner: str
    kind: type
    nargs: str | None
    choices: tuple[str, ...]
    default: Any
    help: str

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        values = {"choices": self.choices} if self.choices else {"type": _truth if self.kind is bool else self.kind}
        parser.add_argument(f"--{self.name}", nargs=self.nargs, **values)
        if self.default is True:
            parser.add_argument(f"--no_{self.name}", action="store_false")


def _truth(word: str) -> bool:
    if word.lower() not in ("yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {word!r}")
    return word.lower() in ("yes", "true", "t", "y", "1")


def read_options(script: Path) -> dict[str, Option]:
    """The options of a script by their names: fields of the classes in its call of `parse_arguments`."""
    source = _read(script)
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    (classes,) = (call.args[0].elts for call in calls if ast.unparse(call.func) == "parse_arguments")
    return {option.name: option for node in classes for option in _fields(*source.find_class(node.id))}


def read_parser(source: "_Source", program: str) -> ArgumentParser | None:
    """The parser that a function of a file makes as `parser = ArgumentParser(...)`; None if there is none."""
    for function in source.tree.body:
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ArgumentParser":
                parser = ArgumentParser(prog=program, **_named_values(source, node))
                _add_arguments(parser, source, function)
                return parser
    return None


def _add_arguments(parser: ArgumentParser, source: "_Source", function: ast.FunctionDef) -> None:
    """Calls `parser.add_argument` as a function does, and as those functions do that it hands the parser alone."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) == "parser.add_argument":
            parser.add_argument(*map(_Names(source).value, node.args), **_named_values(source, node))
        elif [ast.unparse(argument) for argument in node.args] == ["parser"]:
            _add_arguments(parser, *source.find(ast.unparse(node.func)))


def _named_values(source: "_Source", call: ast.Call) -> dict[str, Any]:
    return {keyword.arg: _Names(source).value(keyword.value) for keyword in call.keywords}


@dataclass(frozen=True)
class _Source:
    """A file of Python."""

    path: Path
    tree: ast.Module

    def find_class(self, name: str) -> tuple["_Source", ast.ClassDef]:
        """A class of this file, or one that it imports, and its file."""
        source, node = self.find(name)
        if not isinstance(node, ast.ClassDef):
            raise KeyError(name)
        return source, node

    def find(self, name: str) -> tuple["_Source", ast.AST]:
        """What a name of this file stands for (a class, a function, the value of a constant), and the file with it."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return self, node
            if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
                return self, node.value
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                return _read(self._imported(node, name)).find(name)
        raise KeyError(name)

    def _imported(self, node: ast.ImportFrom, name: str) -> Path:
        parts = (node.module or "").split(".")
        if node.level:
            return self.path.parents[node.level - 1].joinpath(*parts).with_suffix(".py")
        if parts == ["transformers"] and name == "TrainingArguments":
            parts.append("training_args")
        spec = importlib.util.find_spec(parts[0])  # of the package: looks for it, imports nothing
        if spec is None or len(parts) == 1:
            raise KeyError(name)
        return Path(spec.origin).parent.joinpath(*parts[1:]).with_suffix(".py")


@cache
def _read(path: Path) -> _Source:
    return _Source(path, ast.parse(path.read_text(encoding="utf-8")))


class _Names(dict):
    """Evaluates annotations, defaults and descriptions in a file: constants have their values, enumerations their
    members, and every class that is not read stands for itself."""

    def __init__(self, source: _Source):
        own = {"Literal": Literal, "ClassVar": ClassVar, "Path": Path}
        super().__init__(vars(builtins) | own | {"__doc__": ast.get_docstring(source.tree, clean=False)})
        self.source = source

    def __missing__(self, name: str) -> Any:
        try:
            source, node = self.source.find(name)
        except KeyError:
            return type(name, (), {})
        if not isinstance(node, ast.ClassDef):
            return _Names(source).value(node)
        if any("Enum" in ast.unparse(base) for base in node.bases):
            return Enum(name, _constants(node))
        return type(name, (), _constants(node))

    def value(self, node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), str(self.source.path), "eval"), {}, self)


def _constants(class_node: ast.ClassDef) -> dict[str, Any]:
    """Constants of a class. Of one that a condition chooses, the last value stands: it is for newer versions."""
    chosen = [part for node in class_node.body if isinstance(node, ast.If) for part in ast.walk(node)]
    assigned = [node for node in (*class_node.body, *chosen) if isinstance(node, ast.Assign)]
    return {node.targets[0].id: node.value.value for node in assigned if isinstance(node.value, ast.Constant)}


def _fields(source: _Source, class_node: ast.ClassDef) -> Iterator[Option]:
    """The fields of a dataclass, those of its bases first; a field that is defined again comes again."""
    for base in class_node.bases:
        yield from _fields(*source.find_class(ast.unparse(base)))
    names = _Names(source)
    names |= _constants(class_node)
    for node in class_node.body:
        if not isinstance(node, ast.AnnAssign):
            continue
        said = _definition(node.value)
        known = ("init", "default", "default_factory", "help", "nargs", "choices")
        content = {key: names.value(said[key]) for key in known if key in said and not _is_computed(said[key])}
        hint = names.value(node.annotation)
        if get_origin(hint) is ClassVar or not content.get("init", True):
            continue
        kind, is_many, choices = _kind(hint)
        default = content["default_factory"]() if "default_factory" in content else content.get("default")
        nargs = "+" if is_many else "?" if kind is bool else None
        yield Option(
            name=node.target.id,
            owner=class_node.name,
            kind=kind,
            nargs=content.get("nargs", nargs),
            choices=tuple(content.get("choices", choices)),
            default=default,
            help=content.get("help", ""),
        )


def _is_computed(value: ast.expr) -> bool:
    """Whether a value is a call of something that only a run knows: not of a method of text, such as join."""
    return isinstance(value, ast.Call) and not re.match("['\"]", ast.unparse(value.func))


def _definition(value: ast.expr | None) -> dict[str, ast.expr]:
    """What `field(default=..., metadata={"help": ...})` says, its metadata included; or a plain default."""
    if value is None:
        return {}
    if not isinstance(value, ast.Call):
        return {"default": value}
    said = {keyword.arg: keyword.value for keyword in value.keywords}
    if isinstance(metadata := said.get("metadata"), ast.Dict):
        said |= {key.value: text for key, text in zip(metadata.keys, metadata.values, strict=True)}
    return said


def _kind(hint: Any) -> tuple[type, bool, tuple[str, ...]]:
    """What a value is, whether there may be several, and the choices; of a union, the part that counts."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if bool in parts:
        return bool, False, ()
    if len(parts) > 1:
        hint = parts[0] if parts[1] is (NoneType if NoneType in parts else str) else parts[1]
    if get_origin(hint) is Literal:
        return str, False, tuple(map(str, get_args(hint)))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return str, False, tuple(member.value for member in hint)
    is_many = get_origin(hint) is list
    (item,) = get_args(hint) if is_many else (hint,)
    return item if item in (int, float) else str, is_many, ()


# Help


def help_text(script: Path, program: str, options: Mapping[str, Option], is_all: bool, width: int) -> str:
    """The text of --help, or of --help-all."""
    groups = {title: [option for option in options.values() if _group(option) == title] for title in _TITLES}
    others = len(groups[_OTHERS])
    more = f", {others} more from transformers among them" if others and not is_all else ""
    own = [
        ("--config RECIPE", "YAML or JSON file with values for these options; the command line wins."),
        ("--help", "The options that people use."),
        ("--help-all", f"All options{more}, with full descriptions."),
    ]
    lines = [f"usage: {program} [--config RECIPE] [--option value ...]\n", ast.get_docstring(_read(script).tree)]
    lines += ["", "This script:", *(line for entry in own for line in _wrapped(*entry, width))]
    for title in _TITLES if is_all else _TITLES[:-1]:
        first = list(_PLACES.get(title, {}))
        in_order = sorted(groups[title], key=lambda option: (*first, option.name).index(option.name))
        entries = [_entry(option, title, is_all) for option in in_order]
        lines += ["", f"{title}:", *(line for entry in entries for line in _wrapped(*entry, width))] if entries else []
    return "\n".join(lines)


def _group(option: Option) -> str:
    if option.owner not in _GROUPS and option.owner != "TrainingArguments":
        return _TITLES[0]  # a tool has few options
    for title, names in _PLACES.items():
        if option.name in names and (title != "Masking and lengths" or option.owner == "DataArguments"):
            return title
    return _OTHERS if option.name in _RARE else _GROUPS.get(option.owner, _OTHERS)


def _entry(option: Option, title: str, is_all: bool) -> tuple[str, str]:
    """How an option is written, and what it does."""
    values = "|".join(option.choices)
    is_short = len(values) <= 40
    kind = {bool: "true|false", int: "N", float: "X", str: "VALUE"}[option.kind]
    written = f"--{option.name} {values if values and is_short else kind}{' ...' if option.nargs == '+' else ''}"
    if option.nargs == "?" and option.default is False:
        written = f"--{option.name}"
    text = option.help
    if option.owner == "TrainingArguments":
        text = _PLACES.get(title, {}).get(option.name) or text
    if not is_all:
        text = re.split(r"(?<=[^.]\.) ", text)[0]  # its first sentence
    if values and not is_short and (is_all or len(option.choices) <= _LONGEST_LIST):
        text += f" One of {', '.join(option.choices)}."
    if (default := _default(option)) is not None:
        text += f" (default: {default})"
    return written, text


def _default(option: Option) -> str | None:
    """The default in words; None where the description says it, or there is none."""
    default = option.default
    if default is False or default in (None, "", -1, []):
        return None
    if isinstance(default, list):
        return " ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default).lower() if default is True else str(default)


def _wrapped(written: str, text: str, width: int) -> list[str]:
    column = 36 if width >= 100 else 28 if width >= 70 else 6
    lines = textwrap.wrap(text, max(width - column - 1, 20)) or [""]
    head = f"  {written}"
    first = [f"{head:<{column}}{lines.pop(0)}"] if len(head) < column - 1 else [head]
    return first + [" " * column + line for line in lines]
