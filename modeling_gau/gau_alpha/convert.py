# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Converts GAU-alpha, the published Chinese model (kexue.fm/archives/9052), to this package's format and back.

    python -m modeling_gau.gau_alpha --input chinese_GAU-alpha-char_L-24_H-768 --output gau-alpha
    python -m modeling_gau.gau_alpha --to-port --input gau-alpha --output gau-alpha-port

`--input` is the folder of the PyTorch port (`config.json`, `pytorch_model.bin` or `model.safetensors`, `vocab.txt`),
the folder of the TensorFlow release (`bert_config.json`, `bert_model.ckpt.*`, `vocab.txt`; you do not need
TensorFlow), or the name of the port's repository on the Hub. The output is the configuration, the weights as
safetensors, a fast tokenizer, the model's code and a model card; with `--to-port`, the files that the port reads.
"""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError

from ..configuration_gau import GAUConfig, GAUError
from ..modeling_gau import GAUForMaskedLM, GAUModel, GAUPreTrainedModel
from ..runs.model_card import ModelCardFacts, write_model_card
from ..runs.models import load_tokenizer, read_config, why_not_loaded
from ..runs.options import ArgumentParser
from .checkpoints import (
    PORT_CONFIG,
    PORT_NORMALIZATIONS,
    TENSORFLOW_CONFIG,
    WEIGHT_FILES,
    GAUAlphaCheckpoint,
    Overrides,
    port_config,
    read_checkpoint,
    read_json,
)
from .tensors import ENCODER, HEAD, PORT_ENCODER, PORT_HEAD, encoder_tensors
from .tokenizer import VOCABULARY_NAME, check_tokenizer, gau_alpha_tokenizer, vocabulary_lines


logger = logging.getLogger(__name__)

_CITATION = """@techreport{su2022gaualpha,
  title  = {GAU-α: GAU-based Transformers for NLP - ZhuiyiAI},
  author = {Su, Jianlin and Pan, Shengfeng and Wen, Bo and Liu, Yunfeng},
  year   = {2022},
  url    = {https://github.com/ZhuiyiTechnology/GAU-alpha},
}"""
_DESCRIPTION = (
    "Converted from a checkpoint in the format of GAU-α "
    "([ZhuiyiTechnology/GAU-alpha](https://github.com/ZhuiyiTechnology/GAU-alpha), "
    "[kexue.fm/archives/9052](https://kexue.fm/archives/9052); the PyTorch port is "
    "[JunnYu/GAU-alpha-pytorch](https://github.com/JunnYu/GAU-alpha-pytorch)), from its {source}. Ask its authors how "
    "the weights were trained and under which licence you may use them."
)
_TOKEN_TYPES = (
    "The tokenizer gives both texts of a pair the token type 0, as the port's does. GAU-α was pretrained on single "
    "texts, so the embedding of the other type has learned nothing."
)


def convert(source: str | Path, output_dir: str | Path, overrides: Overrides | None = None) -> GAUPreTrainedModel:
    """Writes a checkpoint of GAU-alpha in this package's format.

    Args:
        source: directory of the checkpoint, or the port's name on the Hub.
        output_dir: must be missing or empty. It appears when all its files are written.
        overrides: facts that the checkpoint does not state.

    Returns:
        The model: `GAUForMaskedLM`, or `GAUModel` if the checkpoint has only the encoder.

    Raises:
        ValueError: something is wrong with the checkpoint; the message says what.
        GAUError: `output_dir` holds files.
    """
    output_dir = Path(output_dir).resolve()
    with _whole_directory(output_dir) as directory:
        checkpoint = read_checkpoint(_directory(source), overrides or Overrides())
        kind = GAUForMaskedLM if checkpoint.has_head else GAUModel
        model = kind.from_pretrained(None, config=checkpoint.config, state_dict=checkpoint.state, dtype="auto")
        tokenizer = gau_alpha_tokenizer(
            checkpoint.vocabulary, checkpoint.config.max_position_embeddings, checkpoint.lowercase
        )
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        (directory / VOCABULARY_NAME).write_text(vocabulary_lines(tokenizer), encoding="utf-8")
        write_model_card(directory, _card_facts(checkpoint, model, output_dir.name, tokenizer.mask_token))
    return model


def convert_to_port(
    source: str | Path, output_dir: str | Path, softmax_plus_min_length: int | None = None
) -> dict[str, torch.Tensor]:
    """Writes a checkpoint of this package in the format of the PyTorch port.

    Args:
        source: directory of the checkpoint, or its name on the Hub.
        output_dir: must be missing or empty. It appears when all its files are written.
        softmax_plus_min_length: 1 drops the checkpoint's limit, which the port does not have.

    Returns:
        The written tensors by their names in the port.

    Raises:
        ValueError: the port cannot compute the model, or its tokenizer is not WordPiece.
        GAUError: `output_dir` holds files.
    """
    output_dir = Path(output_dir).resolve()
    with _whole_directory(output_dir) as directory:
        model = _load_ours(source, softmax_plus_min_length)
        has_head = isinstance(model, GAUForMaskedLM)
        description = port_config(model.config, has_head) | {"torch_dtype": str(model.dtype).removeprefix("torch.")}
        tokenizer = load_tokenizer(source)
        lowercase = check_tokenizer(tokenizer, model.config.vocab_size, model.config.pad_token_id)
        if 1 in tokenizer("a", "a").get("token_type_ids", []):
            logger.warning("The tokenizer assigns token type 1 to the second text of a pair; the port's assigns 0.")
        state = _port_state(model, has_head)
        torch.save(state, directory / WEIGHT_FILES[1])
        (directory / VOCABULARY_NAME).write_text(vocabulary_lines(tokenizer), encoding="utf-8")
        limit = {"model_max_length": model.config.max_position_embeddings}
        _write_json(directory / "tokenizer_config.json", {"do_lower_case": lowercase} | limit)
        _write_json(directory / PORT_CONFIG, description)
    return state


def _load_ours(source: str | Path, softmax_plus_min_length: int | None) -> GAUPreTrainedModel:
    """Loads a checkpoint of this package and accounts for every tensor."""
    for name in (PORT_CONFIG, TENSORFLOW_CONFIG):
        path = Path(source) / name
        if path.is_file() and read_json(path).get("model_type") != GAUConfig.model_type:
            raise GAUError(
                f"{source} is not a checkpoint of this package ({name}). To convert from GAU-alpha, drop --to-port."
            )
    config = read_config(source)
    if not isinstance(config, GAUConfig):
        raise GAUError(f"{source} is a checkpoint of type {config.model_type!r}, not 'gau'.")
    architecture = (config.architectures or [GAUForMaskedLM.__name__])[0]
    classes = {kind.__name__: kind for kind in (GAUForMaskedLM, GAUModel)}
    if architecture not in classes:
        raise GAUError(f"{source} is a {architecture}: only {' and '.join(classes)} can be converted.")
    changes = {} if softmax_plus_min_length is None else {"softmax_plus_min_length": softmax_plus_min_length}
    try:
        model, report = classes[architecture].from_pretrained(
            source, dtype="auto", output_loading_info=True, ignore_mismatched_sizes=True, **changes
        )
    except SafetensorError as error:
        raise GAUError(f"The weights of {source} are damaged or cut short ({error}): copy them again.") from error
    faults = {"missing": report["missing_keys"], "unknown": report["unexpected_keys"]}
    faults["of another shape"] = {name for name, *_ in report["mismatched_keys"]}
    if any(faults.values()):
        found = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in faults.items() if names)
        raise GAUError(f"{source} does not match its configuration. {found}.")
    return model


def _directory(source: str | Path) -> Path:
    """The directory itself, or a snapshot from the Hub."""
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise GAUError(f"--input {source} is not a directory.")
    wanted = [PORT_CONFIG, TENSORFLOW_CONFIG, VOCABULARY_NAME, "tokenizer_config.json", "*.ckpt.*"]
    for name, _, suffix in (name.partition(".") for name in WEIGHT_FILES):
        wanted += [f"{name}.{suffix}", f"{name}.{suffix}.index.json", f"{name}-*.{suffix}"]
    try:
        return Path(snapshot_download(str(source), allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, FileNotFoundError, ConnectionError) as error:
        raise GAUError(f"--input {source} cannot be read: {why_not_loaded(source, error)}.") from error


def _port_state(model: GAUPreTrainedModel, has_head: bool) -> dict[str, torch.Tensor]:
    theirs, ours = (PORT_ENCODER, ENCODER) if has_head else ("", "")
    state = model.state_dict()
    port = {theirs + names.port: state.pop(ours + names.ours) for names in encoder_tensors(model.config)}
    if has_head:
        port[PORT_HEAD] = state.pop(HEAD)
    assert not state, state.keys()
    return port


def _card_facts(
    checkpoint: GAUAlphaCheckpoint, model: GAUPreTrainedModel, name: str, mask_token: str
) -> ModelCardFacts:
    return ModelCardFacts(
        model_name=name,
        repo_id=name,
        task="fill-mask" if checkpoint.has_head else "feature-extraction",
        config=checkpoint.config,
        mask_token=mask_token,
        language="zh",
        n_parameters=model.num_parameters(),
        origin=f"{_DESCRIPTION.format(source=checkpoint.source)} {_TOKEN_TYPES}",
        citations=(_CITATION,),
    )


# Files


@contextmanager
def _whole_directory(path: Path) -> Iterator[Path]:
    """A temporary directory that becomes `path` if the block ends well, and is removed otherwise.

    Raises:
        GAUError: `path` holds files already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise GAUError(f"--output {path} is not empty: choose another directory, or remove it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise GAUError(f"--output {path} cannot be written: {error.strerror}.") from error
    with made as temporary:
        inside = Path(temporary) / path.name
        inside.mkdir()
        yield inside
        if not path.exists():
            inside.rename(path)
            return
        # An empty directory may be irreplaceable, such as a mount. The file that marks a checkpoint comes last.
        for file in sorted(inside.iterdir(), key=lambda file: file.name == PORT_CONFIG):
            shutil.move(file, path / file.name)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="directory of the checkpoint, or its name on the Hub")
    parser.add_argument("--output", required=True, type=Path, help="directory to write; must not exist, or be empty")
    parser.add_argument("--to-port", "--to_port", action="store_true", help="from this package's format to the port's")
    parser.add_argument(
        "--attention-normalization",
        "--attention_normalization",
        choices=PORT_NORMALIZATIONS,
        help="for TensorFlow checkpoints, which do not state it (default: softmax_plus, as in GAU-alpha)",
    )
    parser.add_argument(
        "--softmax-plus-min-length",
        "--softmax_plus_min_length",
        type=int,
        help="shortest length for the scale of softmax_plus (default: 1, as in the port and in bert4keras 0.11.3; "
        "bert4keras 0.11.5 has 16)",
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.to_port:
        if args.attention_normalization:
            parser.error("--attention-normalization is for TensorFlow checkpoints; it has no effect with --to-port.")
        state = convert_to_port(args.input, args.output, args.softmax_plus_min_length)
        logger.info(f"{args.output}: {len(state)} tensors in the format of the PyTorch port")
        return
    length = 1 if args.softmax_plus_min_length is None else args.softmax_plus_min_length
    model = convert(args.input, args.output, Overrides(args.attention_normalization, length))
    logger.info(
        f"{args.output}: {type(model).__name__}, {model.num_parameters():,} parameters, "
        f"{model.config.attention_normalization}; config, safetensors, tokenizer, code and model card"
    )
