"""Arguments of the training scripts: their dataclasses, and recipes whose values the command line may override."""

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
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, HfArgumentParser, PreTrainedConfig

from .attention_gau import check_attention_backend
from .configuration_gau import GAUConfig
from .whole_words import find_segmenter


@dataclass
class ModelArguments:
    """Which model and tokenizer to start from, and how to load them."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint to start from: a directory or a name on the Hub."}
    )
    model_type: str | None = field(
        default=None,
        metadata={
            "help": "Architecture of a new model with its default configuration, where no config_name is given: bert, "
            "roformer, modernbert, ... any of transformers with a masked language model."
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={
            "help": "Configuration of a new model: a preset of configuration/models (such as gau-tiny), a directory "
            "with a config.json or a name on the Hub."
        },
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={"help": "Tokenizer, where it is not the checkpoint's: a directory or a name on the Hub."},
    )
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Fields of the configuration to change: 'num_hidden_layers=12,hidden_dropout_prob=0'."},
    )
    attention_normalization: str | None = field(
        default=None, metadata={"help": "Attention normalization, where it is not the configuration's."}
    )
    fixed_n: int | None = field(
        default=None,
        metadata={"help": "Number that takes the place of each sequence's length n in the attention normalization."},
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention implementation (eager, sdpa, ...); the fastest one by default."}
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "Precision the weights are loaded in."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads from the Hub are kept."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the checkpoint on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Access token for the Hub, where it is not the one of the login."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the model code that the checkpoint brings with it."}
    )

    def __post_init__(self):
        if self.model_type and (self.config_name or self.model_name_or_path):
            other = "config_name" if self.config_name else "model_name_or_path"
            raise ValueError(f"--model_type and --{other} both say which model it is: keep one of them.")
        if self.fixed_n is not None and self.fixed_n < 1:
            raise ValueError(f"--fixed_n must be a positive number of tokens, got {self.fixed_n}.")


@dataclass
class CardArguments:
    """What a model card says that no run can know."""

    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model for its card, as the Hub names it: apache-2.0, mit, cc-by-4.0, ..."},
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "Languages of the text for the card, as the Hub names them: en, zh, ..."}
    )

    def __post_init__(self):
        for code in self.language or ():
            if not re.fullmatch(r"[a-z]{2,3}|code|multilingual", code):
                raise ValueError(f"--language {code}: the Hub knows languages by codes such as en, zh or deu.")
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise ValueError(
                f"--license {self.license}: the Hub knows licences by names such as apache-2.0, mit or cc-by-4.0, and "
                "`other`."
            )


@dataclass
class DataArguments:
    """Which text to pretrain on, how it is cut into rows, and what is masked.

    At most one of `train_file`, `dataset_name` and `dataset_path` may be given; with none of them the embedded corpus
    is used.
    """

    train_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Training text: files, globs or directories of txt, json, jsonl, csv, tsv or parquet files."
        },
    )
    validation_file: list[str] | None = field(
        default=None,
        metadata={"help": "Validation text, in the same forms; without it a part is held out of the training text."},
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Name of a dataset on the Hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    dataset_path: str | None = field(
        default=None,
        metadata={"help": "Directory of a dataset on disk: one that save_to_disk wrote, or a folder of data files."},
    )
    text_column: str = field(default="text", metadata={"help": "Column that holds the text."})
    text_unit: Literal["document", "paragraph", "line"] = field(
        default="document",
        metadata={
            "help": "What one document of a txt file is: the file, a paragraph (set off by blank lines) or a line."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the files while training, in a seeded order and without a cache, rather than all of them "
            "beforehand."
        },
    )
    skip_bad_rows: bool = field(
        default=False,
        metadata={
            "help": "Leave out rows that cannot be read (not JSON, no text, not UTF-8, wrong number of columns), "
            "count and report them; without it the first one is an error that names file and line."
        },
    )
    validation_split_percentage: float = field(
        default=5.0, metadata={"help": "Percentage of the documents held out where there is no validation text."}
    )
    max_seq_length: int = field(default=512, metadata={"help": "Tokens of a training row, [CLS] and [SEP] included."})
    packing: Literal["none", "concat", "documents"] = field(
        default="concat",
        metadata={
            "help": "How rows are filled: one document each (none), one stream of documents joined by [SEP] and cut "
            "at every row's end (concat), or whole documents side by side that do not see each other (documents)."
        },
    )
    long_documents: Literal["split", "truncate"] = field(
        default="split",
        metadata={
            "help": "What becomes of a document longer than a row with --packing none or documents: it is split into "
            "parts that count as documents, or all but its first part is left out. Both are counted and reported."
        },
    )
    mixed_lengths: list[int] | None = field(
        default=None,
        metadata={
            "help": "Row lengths that alternate at random from step to step, with as many tokens a step at each. They "
            "must divide the longest one."
        },
    )
    mixed_length_weights: list[float] | None = field(
        default=None, metadata={"help": "How often each of mixed_lengths is taken; equally often by default."}
    )
    length_schedule: str | None = field(
        default=None,
        metadata={
            "help": "Row lengths by stage: '512:0.9,2048:0.1' takes 512 for the first 90 percent of the steps. A "
            "third number is the stage's RoPE base: '2048:0.1:160000'. '128+512:0.9' mixes lengths in a stage."
        },
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the training tokens to predict."})
    eval_mlm_probability: float | None = field(
        default=None, metadata={"help": "Share of the validation tokens to predict; mlm_probability by default."}
    )
    mask_replace_prob: float = field(
        default=0.8, metadata={"help": "Share of the tokens to predict that are replaced by the mask token."}
    )
    random_replace_prob: float = field(
        default=0.1,
        metadata={"help": "Share of them that are replaced by a random token; the rest stays as it is."},
    )
    whole_word_masking: bool = field(
        default=False, metadata={"help": "Choose whole words to predict, not single tokens."}
    )
    word_segmenter: Literal["jieba", "none"] | None = field(
        default=None,
        metadata={"help": "What finds the words of Chinese text for whole_word_masking (extra `chinese`), or none."},
    )
    eval_lengths: list[int] | None = field(
        default=None,
        metadata={
            "help": "Row lengths to evaluate at, besides max_seq_length; 64, 128, ... 2048 by default, as far as the "
            "text and the model reach."
        },
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use the first so many training documents."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Use the first so many validation documents."}
    )
    max_eval_tokens: int | None = field(default=None, metadata={"help": "Use the first so many validation tokens."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenise."})
    overwrite_cache: bool = field(default=False, metadata={"help": "Read and tokenise again what is in the cache."})
    tokenizer_type: Literal["wordpiece", "bpe"] = field(
        default="wordpiece", metadata={"help": "Kind of tokenizer to train where none is given."}
    )
    vocab_size: int = field(default=8192, metadata={"help": "Entries of the tokenizer to train."})
    tokenizer_characters: int = field(
        default=50_000_000, metadata={"help": "Train it on documents of so many characters, if there are more."}
    )
    tokenizer_lowercase: bool = field(default=False, metadata={"help": "Lower-case text in the tokenizer to train."})

    def __post_init__(self):
        self._check_sources()
        if self.eval_mlm_probability is None:
            self.eval_mlm_probability = self.mlm_probability
        for name in ("mlm_probability", "eval_mlm_probability"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"--{name} must lie between 0 and 1, both excluded, got {getattr(self, name)}.")
        shares = (self.mask_replace_prob, self.random_replace_prob)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(
                "--mask_replace_prob and --random_replace_prob are shares that add up to at most 1, got "
                f"{shares[0]} and {shares[1]}."
            )
        if self.word_segmenter == "none":  # against a recipe
            self.word_segmenter = None
        if self.word_segmenter is not None:
            if not self.whole_word_masking:
                raise ValueError(
                    f"--word_segmenter {self.word_segmenter} finds whole words: give --whole_word_masking as well, or "
                    "--word_segmenter none."
                )
            find_segmenter(self.word_segmenter)
        self._check_lengths()
        lengths_of = {"max_seq_length": [self.max_seq_length]}
        if self.eval_lengths is not None:
            lengths_of["eval_lengths"] = self.eval_lengths
        for name, lengths in lengths_of.items():
            if not lengths or min(lengths) < 3:
                raise ValueError(f"--{name} must be at least 3 ([CLS], one token and [SEP]), got {lengths}.")
        for name in ("max_train_samples", "max_eval_samples", "max_eval_tokens", "preprocessing_num_workers"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.validation_split_percentage < 100:
            raise ValueError(
                "--validation_split_percentage must lie between 0 and 100, both excluded, got "
                f"{self.validation_split_percentage}."
            )

    def _check_lengths(self):
        if self.mixed_length_weights and not self.mixed_lengths:
            raise ValueError("--mixed_length_weights needs --mixed_lengths beside it.")
        if self.mixed_lengths and self.length_schedule:
            raise ValueError(
                "--mixed_lengths and --length_schedule exclude each other: mix lengths in a stage with "
                "'128+512:0.9,2048:0.1'."
            )
        if self.long_documents == "truncate" and self.packing == "concat":
            raise ValueError(
                "--long_documents truncate needs --packing none or documents: with concat no document is too long for "
                "a row, since rows go on with it."
            )
        option = "mixed_lengths" if self.mixed_lengths else "length_schedule" if self.length_schedule else None
        if option and self.packing == "none":
            raise ValueError(
                f"--{option} needs --packing concat or documents: with none, rows are as long as their documents."
            )

    def _check_sources(self):
        given = [name for name in ("train_file", "dataset_name", "dataset_path") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"Training text has one source, got --{' and --'.join(given)}: keep one of them.")
        if self.validation_file and not given:
            raise ValueError("--validation_file needs --train_file (or --dataset_name or --dataset_path) beside it.")
        if self.dataset_config_name and not self.dataset_name:
            raise ValueError(f"--dataset_config_name {self.dataset_config_name} needs --dataset_name beside it.")
        if self.streaming and not given:
            raise ValueError(
                "--streaming needs text: give --train_file, --dataset_path or --dataset_name. The embedded corpus is "
                "small and cannot be streamed: leave --streaming out."
            )
        if self.streaming and self.max_train_samples is not None:
            raise ValueError(
                "--max_train_samples cannot be had with --streaming, which knows no first documents: limit the run "
                "with --max_steps, or leave --streaming out."
            )


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


def resolve_config(model_arguments: ModelArguments, **changes: Any) -> PreTrainedConfig:
    """Returns the configuration that the model arguments describe.

    It is read from `config_name` (a preset, a directory, a config.json or a name on the Hub) or, without it, from
    `model_name_or_path`, and changed by `config_overrides`, `attention_normalization`, `fixed_n` and `changes`, the
    later ones winning. The changes go in before the configuration is built, so that it validates them and derives
    from them what it derives.

    Args:
        model_arguments: of the script.
        **changes: fields that the script sets itself, such as `vocab_size=len(tokenizer)`.

    Raises:
        ValueError: neither source is given, the preset is unknown, an override is not a field or not of its type, or
            `attn_implementation` is unknown or cannot do the attention normalization.
    """
    config_class, config_dict = _read_config(model_arguments)
    changes = {
        **_parse_overrides(model_arguments.config_overrides or "", config_class),
        **{
            key: value
            for key, value in (
                ("attention_normalization", model_arguments.attention_normalization),
                ("fixed_n", model_arguments.fixed_n),
            )
            if value is not None
        },
        **changes,
    }
    for option in ("attention_normalization", "fixed_n"):
        if option in changes and not issubclass(config_class, GAUConfig):
            raise ValueError(f"--{option} is an option of GAU models; {config_class.__name__} has no such field.")
    config = config_class.from_dict({**config_dict, **changes})
    if isinstance(config, GAUConfig) and model_arguments.attn_implementation is not None:
        check_attention_backend(model_arguments.attn_implementation, config.attention_normalization)
    return config


def stated_fields(model_arguments: ModelArguments) -> set[str]:
    """The fields that the config.json which the model arguments name states itself, defaults not counted."""
    return set(_read_config(model_arguments)[1])


def _read_config(model_arguments: ModelArguments) -> tuple[type[PreTrainedConfig], dict[str, Any]]:
    name = model_arguments.config_name or model_arguments.model_name_or_path
    if name is None and model_arguments.model_type is not None:
        return _type_of_name(model_arguments.model_type), {}
    if name is None:
        raise ValueError(
            "Give --model_name_or_path for a checkpoint, or for a new model --config_name "
            f"({', '.join(sorted(_presets())) or 'a directory with a config.json'}) or --model_type."
        )
    hub = {
        "cache_dir": model_arguments.cache_dir,
        "revision": model_arguments.revision,
        "token": model_arguments.token,
    }
    preset = _presets().get(name) if model_arguments.config_name else None
    if preset is not None:
        config_class, source = GAUConfig, preset
    else:
        if model_arguments.config_name:
            _check_spelling(name)
        config_class, source = _config_class(name, model_arguments.trust_remote_code, hub), name
    return config_class, config_class.get_config_dict(str(source), **hub)[0]


def _type_of_name(model_type: str) -> type[PreTrainedConfig]:
    try:
        config = AutoConfig.for_model(model_type)
    except ValueError as error:
        known = [kind for kind, config_class in CONFIG_MAPPING.items() if config_class in MODEL_FOR_MASKED_LM_MAPPING]
        raise ValueError(
            f"--model_type {model_type} is not an architecture of transformers.{_nearest(model_type, known)} Those "
            f"with a masked language model: {', '.join(sorted(known))}."
        ) from error
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ValueError(f"--model_type {model_type} has no masked language model in transformers.")
    return type(config)


def _check_spelling(name: str) -> None:
    """Refuses what looks like a misspelt preset: the Hub, or a missing network, would take its time to do so."""
    presets = sorted(_presets())
    # A name on the Hub without an owner (roberta-base) is farther from a preset than that.
    nearest = difflib.get_close_matches(name.lower(), presets, n=1, cutoff=0.75)
    if nearest and "/" not in name and not Path(name).exists():
        raise ValueError(
            f"--config_name {name} is neither a preset ({', '.join(presets)}) nor a path. Did you mean {nearest[0]}?"
        )


def _presets() -> dict[str, Path]:
    """Finds configuration/models beside the running script, or beside the package where it is used from a clone."""
    roots = [Path(sys.argv[0]).resolve().parent, Path(__file__).resolve().parents[1]]
    paths = [path for root in reversed(roots) for path in root.glob("configuration/models/*/config.json")]
    return {path.parent.name: path.parent for path in paths}


def _config_class(name: str, trust_remote_code: bool, hub: dict[str, Any]) -> type[PreTrainedConfig]:
    try:
        return type(AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, **hub))
    except OSError as error:
        presets = _presets()
        raise ValueError(
            f"{name} is neither a preset ({', '.join(sorted(presets)) or 'none found'}), nor a directory with a "
            f"config.json, nor a model that the Hub gives.{_nearest(name, presets)} ({' '.join(str(error).split())})"
        ) from error


def _parse_overrides(text: str, config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """Parses "a=1,b=[1, 2],c=null": values are YAML, held to the types of the configuration's fields."""
    # A type that stands as a string may name what only type checkers import: the configuration checks such a field.
    hints = {entry.name: Any if isinstance(entry.type, str) else entry.type for entry in fields(config_class)}
    overrides = {}
    for part in filter(None, re.split(r",(?=\s*\w+\s*=)", text)):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"--config_overrides is a list of field=value, got {part!r}.")
        if key not in hints:
            raise ValueError(
                f"--config_overrides: {config_class.__name__} has no field {key!r}.{_nearest(key, hints)}"
            )
        try:
            overrides[key] = _convert(yaml.load(value, Loader=_RecipeLoader), hints[key])
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"--config_overrides: {key} must be {_describe(hints[key])}, got {value!r}.") from error
    return overrides
