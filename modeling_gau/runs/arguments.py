"""Arguments of the training scripts: their dataclasses, and recipes whose values the command line may override."""

import os
import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import (
    TrainingArguments,
)
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available, logging


logger = logging.get_logger(__name__)


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


def take_cpu_for_bfloat16(args: TrainingArguments) -> None:
    """Sets `use_cpu` where bfloat16 is asked for and there is no accelerator: [`TrainingArguments`] refuses the pair,
    so that a recipe for GPUs would not run elsewhere. Must come before its `__post_init__`. An accelerator that cannot
    do bfloat16 is left to its refusal."""
    if args.use_cpu or not (args.bf16 or args.bf16_full_eval):
        return
    if torch.accelerator.is_available() or is_torch_bf16_gpu_available() or is_torch_xla_available():
        return
    args.use_cpu = True
    if int(os.environ.get("RANK", "0")) == 0:
        logger.warning(
            "There is no accelerator: bfloat16 is computed on the CPU (--use_cpu). A CPU without instructions for it "
            "is faster with --bf16 false."
        )
