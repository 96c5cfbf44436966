# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of GAU-alpha, the published Chinese model (kexue.fm/archives/9052), to this package's format and back.

    python -m modeling_gau.convert_gau_alpha --input chinese_GAU-alpha-char_L-24_H-768 --output gau-alpha
    python -m modeling_gau.convert_gau_alpha --to-port --input gau-alpha --output gau-alpha-port

`--input` is the folder of the PyTorch port (`config.json`, `pytorch_model.bin` or `model.safetensors`, `vocab.txt`),
that of the TensorFlow release (`bert_config.json`, `bert_model.ckpt.*`, `vocab.txt`; TensorFlow is not needed), or the
name of the port's repository on the Hub. Written are the configuration, the weights as safetensors, a fast tokenizer,
the model's code and a model card; or, with `--to-port`, what the port reads.
"""

import argparse
import json
import logging
import re
import sys
import tempfile
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import AutoConfig, AutoTokenizer

from .attention_gau import ATTENTION_NORMALIZATIONS
from .configuration_gau import GAUConfig
from .gau_alpha_checkpoints import (
    PORT_CONFIG,
    PORT_NORMALIZATIONS,
    TENSORFLOW_CONFIG,
    WEIGHT_FILES,
    GAUAlphaCheckpoint,
    Overrides,
    port_config,
    read_checkpoint,
)
from .gau_alpha_tensors import ENCODER, HEAD, PORT_ENCODER, PORT_HEAD, encoder_tensors
from .gau_alpha_tokenizer import VOCABULARY_NAME, gau_alpha_tokenizer, vocabulary_lines
from .model_card import ModelCardFacts, write_model_card
from .modeling_gau import GAUForMaskedLM, GAUModel, GAUPreTrainedModel


logger = logging.getLogger(__name__)

_EXAMPLE = "北京是中国的{mask}都，也是一座历史悠久的城市。"
_CITATION = """@techreport{su2022gaualpha,
  title  = {GAU-α: GAU-based Transformers for NLP - ZhuiyiAI},
  author = {Su, Jianlin and Pan, Shengfeng and Wen, Bo and Liu, Yunfeng},
  year   = {2022},
  url    = {https://github.com/ZhuiyiTechnology/GAU-alpha},
}"""
_DESCRIPTION = (
    "Converted, weights unchanged, from a checkpoint in the format of GAU-α "
    "([ZhuiyiTechnology/GAU-alpha](https://github.com/ZhuiyiTechnology/GAU-alpha), "
    "[kexue.fm/archives/9052](https://kexue.fm/archives/9052); the PyTorch port is "
    "[JunnYu/GAU-alpha-pytorch](https://github.com/JunnYu/GAU-alpha-pytorch)), from its {source}. How the weights "
    "were trained, and under which licence they may be used, its authors say."
)
_TOKEN_TYPES = (
    "The tokenizer gives both texts of a pair the token type 0, as the port's does: GAU-α was pretrained with single "
    "texts, so that the embedding of the other type has learned nothing."
)


def convert(source: str | Path, output_dir: str | Path, overrides: Overrides | None = None) -> GAUPreTrainedModel:
    """Writes a checkpoint of GAU-alpha in this package's format.

    Args:
        source: directory of the checkpoint, or the port's name on the Hub.
        output_dir: must not exist, or be empty. It appears when everything in it is written.
        overrides: what the checkpoint does not say.

    Returns:
        The model: `GAUForMaskedLM`, or `GAUModel` where the checkpoint has the encoder alone.

    Raises:
        ValueError: something is wrong with the checkpoint; the message says what.
        FileExistsError: `output_dir` holds files.
    """
    output_dir = Path(output_dir)
    _check_output(output_dir)
    checkpoint = read_checkpoint(_directory(source), overrides or Overrides())
    model = _build(checkpoint)
    tokenizer = gau_alpha_tokenizer(
        checkpoint.vocabulary, checkpoint.config.max_position_embeddings, checkpoint.lowercase
    )
    with _whole_directory(output_dir) as directory:
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
        output_dir: must not exist, or be empty. It appears when everything in it is written.
        softmax_plus_min_length: 1 drops the limit of a checkpoint that has one, since the port has none.

    Returns:
        The tensors that were written, by their names there.

    Raises:
        ValueError: the port cannot compute the model, or its tokenizer is no WordPiece.
        FileExistsError: `output_dir` holds files.
    """
    output_dir = Path(output_dir)
    _check_output(output_dir)
    config = AutoConfig.from_pretrained(source)
    if not isinstance(config, GAUConfig):
        way_out = " Leave out --to-port to convert it." * (config.model_type == "gau_alpha")
        raise ValueError(f"{source} is a checkpoint of type {config.model_type!r}, not 'gau'.{way_out}")
    if softmax_plus_min_length is not None:
        config.softmax_plus_min_length = softmax_plus_min_length
    architecture = (config.architectures or ["GAUForMaskedLM"])[0]
    classes = {kind.__name__: kind for kind in (GAUForMaskedLM, GAUModel)}
    if architecture not in classes:
        raise ValueError(
            f"{source} is a {architecture}: {' and '.join(classes)} can be converted, other heads cannot."
        )
    has_head = architecture == GAUForMaskedLM.__name__
    description = port_config(config, has_head)
    tokenizer = AutoTokenizer.from_pretrained(source)
    vocabulary = vocabulary_lines(tokenizer)
    model = classes[architecture].from_pretrained(source, dtype="auto")
    state = _port_state(model, has_head)
    description["torch_dtype"] = str(model.dtype).removeprefix("torch.")
    limit = {"model_max_length": config.max_position_embeddings}
    lowercase = json.loads(tokenizer.backend_tokenizer.to_str())["normalizer"]["lowercase"]
    with _whole_directory(output_dir) as directory:
        torch.save(state, directory / WEIGHT_FILES[1])
        (directory / VOCABULARY_NAME).write_text(vocabulary, encoding="utf-8")
        _write_json(directory / "tokenizer_config.json", {"do_lower_case": lowercase} | limit)
        _write_json(directory / PORT_CONFIG, description)
    return state


def _directory(source: str | Path) -> Path:
    """The directory itself, or what the Hub has under that name."""
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise ValueError(f"--input {source} is no directory.")
    wanted = [PORT_CONFIG, TENSORFLOW_CONFIG, VOCABULARY_NAME, "tokenizer_config.json", "*.ckpt.*"]
    wanted += [f"{name}{end}" for name in WEIGHT_FILES for end in ("", ".index.json")]
    try:
        return Path(snapshot_download(str(source), allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"--input {source} is no directory, and the Hub does not give it: {error}") from error


def _build(checkpoint: GAUAlphaCheckpoint) -> GAUPreTrainedModel:
    kind = GAUForMaskedLM if checkpoint.has_head else GAUModel
    return kind.from_pretrained(None, config=checkpoint.config, state_dict=checkpoint.state, dtype="auto")


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
        example=_EXAMPLE.format(mask=mask_token if checkpoint.has_head else "首"),
        mask_token=mask_token,
        language="zh",
        n_parameters=model.num_parameters(),
        origin=_DESCRIPTION.format(source=checkpoint.source),
        citations=(_CITATION,),
        limits=(_TOKEN_TYPES,),
    )


# Files


class _whole_directory:
    """A directory beside the one that is wanted, which takes its name when all is well and else is removed."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = tempfile.TemporaryDirectory(prefix=f".{self.path.name}-", dir=self.path.parent)
        self._inside = Path(self._temporary.name) / self.path.name
        self._inside.mkdir()
        return self._inside

    def __exit__(self, kind, *_) -> None:
        with self._temporary:
            if kind is None:
                self._inside.rename(self.path)


def _check_output(output_dir: Path) -> None:
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise FileExistsError(f"--output {output_dir} is there and not empty: give another one, or remove it.")


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="directory of the checkpoint, or its name on the Hub")
    parser.add_argument("--output", required=True, type=Path, help="directory to write; must not exist, or be empty")
    parser.add_argument("--to-port", "--to_port", action="store_true", help="from this package's format to the port's")
    parser.add_argument(
        "--attention-normalization",
        "--attention_normalization",
        choices=[name for name in PORT_NORMALIZATIONS if name in ATTENTION_NORMALIZATIONS],
        help="of a TensorFlow checkpoint, which does not say it (default: softmax_plus, that of GAU-alpha)",
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
    try:
        if args.to_port:
            if args.attention_normalization:
                parser.error("--attention-normalization goes with TensorFlow checkpoints, not with --to-port.")
            state = convert_to_port(args.input, args.output, args.softmax_plus_min_length)
            logger.info(f"{args.output}: {len(state)} tensors in the format of the PyTorch port")
            return
        length = 1 if args.softmax_plus_min_length is None else args.softmax_plus_min_length
        model = convert(args.input, args.output, Overrides(args.attention_normalization, length))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    logger.info(
        f"{args.output}: {type(model).__name__}, {model.num_parameters():,} parameters, "
        f"{model.config.attention_normalization}; config, safetensors, tokenizer, code and model card"
    )


if __name__ == "__main__":
    main()
