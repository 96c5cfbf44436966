# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments that both training scripts share."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from accelerate.utils import DynamoBackend
from transformers import PreTrainedConfig, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import SaveStrategy
from transformers.training_args import OptimizerNames
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available, logging

from ..configuration_gau import NORMALIZATION_USES_N, GAUError
from .optimizers import MUON, muon_options


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
            "help": "Architecture of a new model with its default configuration: bert, roformer, modernbert or any "
            "other masked language model of transformers."
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={
            "help": "Configuration of a new model: a preset of configuration/models (such as gau-tiny), a directory "
            "with a config.json or a name on the Hub. A preset's query_key_offset_init is for the softmax family: "
            "another --attention_normalization drops it."
        },
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={"help": "Tokenizer: a directory or a name on the Hub; by default the checkpoint's."},
    )
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Fields of the configuration to change: 'num_hidden_layers=12,hidden_dropout_prob=0'."},
    )
    attention_normalization: str | None = field(
        default=None,
        metadata={
            "help": "How scores become attention weights; the configuration's by default.",
            "choices": [*NORMALIZATION_USES_N],
        },
    )
    fixed_n: int | None = field(
        default=None,
        metadata={"help": "Number that replaces each sequence's length n in the attention normalization."},
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention implementation (eager, sdpa, ...); the fastest by default."}
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "Precision of the weights; float32 by default."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder for downloads from the Hub."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the checkpoint on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Access token for the Hub; by default the one you logged in with."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the model code that comes with the checkpoint."}
    )

    def __post_init__(self):
        if self.model_type and (self.config_name or self.model_name_or_path):
            other = "config_name" if self.config_name else "model_name_or_path"
            raise GAUError(f"--model_type and --{other} both name the model: keep one of them.")
        if self.fixed_n is not None and not 1 <= self.fixed_n < 2**31:
            raise GAUError(f"--fixed_n must be a positive number of tokens, at most 2147483647, got {self.fixed_n}.")

    def hub_options(self) -> dict[str, str | None]:
        """Options of every `from_pretrained`."""
        return {"cache_dir": self.cache_dir, "revision": self.revision, "token": self.token}


@dataclass
class CardArguments:
    """Facts for the model card that no run can know."""

    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model, by its name on the Hub: apache-2.0, mit, cc-by-4.0, ..."},
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "Languages of the text, by their codes on the Hub: en, zh, ..."}
    )

    def __post_init__(self):
        for code in self.language or ():
            if not re.fullmatch(r"[a-z]{2,3}|code|multilingual", code):
                raise GAUError(f"--language {code}: the Hub knows languages by codes such as en, zh or deu.")
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise GAUError(
                f"--license {self.license}: the Hub knows licences by names such as apache-2.0, mit or cc-by-4.0, and "
                "`other`."
            )


_Range = tuple[str, Callable[[float], bool]]  # what is allowed, in words and as a test

_POSITIVE: _Range = ("from 1 to 2147483647", lambda value: 1 <= value < 2**31)
_NOT_NEGATIVE: _Range = ("a finite number of at least 0", lambda value: 0 <= value < math.inf)
_ABOVE_ZERO: _Range = ("a finite number above 0", lambda value: 0 < value < math.inf)
_WORKERS: _Range = ("from 0 to 1024", lambda value: 0 <= value <= 1024)  # more would take all memory
_BELOW_ONE: _Range = ("from 0 to below 1", lambda value: 0 <= value < 1)
SEED: _Range = ("from 0 to 4294967295", lambda value: 0 <= value < 2**32)  # what numpy takes

# Loggers of transformers that its list of those installed never has.
_UNLISTED_LOGGERS = ("azure_ml", "flyte")
# Argument of a run -> its values; None always stands for a default. `TrainingArguments` takes any number.
_RANGES: Mapping[str, _Range] = {
    "per_device_train_batch_size": _POSITIVE,
    "per_device_eval_batch_size": _POSITIVE,
    "gradient_accumulation_steps": _POSITIVE,
    "eval_accumulation_steps": _POSITIVE,
    "dataloader_prefetch_factor": _POSITIVE,
    "dataloader_num_workers": _WORKERS,
    "learning_rate": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "neftune_noise_alpha": _NOT_NEGATIVE,
    "warmup_steps": _NOT_NEGATIVE,
    "eval_delay": _NOT_NEGATIVE,
    "adam_epsilon": _ABOVE_ZERO,
    "logging_steps": _ABOVE_ZERO,
    "save_steps": _ABOVE_ZERO,
    "eval_steps": _NOT_NEGATIVE,  # 0 stands for logging_steps
    "adam_beta1": _BELOW_ONE,
    "adam_beta2": _BELOW_ONE,
    "label_smoothing_factor": _BELOW_ONE,
    "seed": SEED,
    "data_seed": SEED,
}


def check_ranges(values: Mapping[str, float | None], ranges: Mapping[str, _Range] = _RANGES) -> None:
    """Raises ValueError for the first of the values that is out of its range."""
    for name, (allowed, is_allowed) in ranges.items():
        value = values[name]
        try:
            if value is None or is_allowed(value):
                continue
        except TypeError:  # a word, from Python
            pass
        raise GAUError(f"--{name} must be {allowed}, got {value!r}.")


# Optimizers that look for their matrices in a model.
_OPTIMIZERS_OF_A_MODEL = re.compile("galore|apollo|lomo|adalomo")


_Optimizer = Literal[(*(name.value for name in OptimizerNames), MUON)]


@dataclass
class RunArguments(TrainingArguments):
    """[`TrainingArguments`] with what every run adds.

    Subclasses say in `RATE_AT_768` which learning rate fits a width of 768, and with which power it falls with the
    width, and in `RATE_OF_MUON` how many times that fits Muon: docs/scaling.md has the measurements.
    """

    RATE_AT_768: ClassVar[tuple[float, float]]
    RATE_OF_MUON: ClassVar[float] = 1.0

    # The Trainer's 5e-5 serves BERT-base; a model of a quarter of its width learns next to nothing from it.
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate; chosen by the width of the model by default."}
    )
    optim: _Optimizer = field(
        default=TrainingArguments.default_optim,
        metadata={
            "help": "Optimizer: adamw_torch_fused, adamw_torch, adafactor, stable_adamw, muon (for the encoder's "
            "matrices, with AdamW for the rest) or another one of transformers."
        },
    )
    # The Trainer logs the mean of earlier losses in place of a NaN: a diverged run would look healthy.
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave NaN and infinite losses out of the logged loss."}
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Start over in an `output_dir` that holds an earlier run, and delete its `checkpoint-*` folders."
        },
    )

    def __post_init__(self):
        used = dict(vars(self))
        for kind in ("logging", "save", "eval"):
            if used[f"{kind}_strategy"] == "no":
                used[f"{kind}_steps"] = None
        check_ranges(used)
        self._check_metrics()
        self._take_cpu_for_bfloat16()
        is_muon = self.optim == MUON
        # accelerate's launcher asks for DeepSpeed in the environment.
        is_deepspeed = self.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
        if is_deepspeed and is_muon:
            raise GAUError("--optim muon needs whole matrices, which DeepSpeed does not have: leave one of them out.")
        if is_deepspeed and self.learning_rate is None:
            raise GAUError("DeepSpeed needs --learning_rate: its settings are made before the model is known.")
        if is_muon:  # which transformers does not know
            self.optim = "adamw_torch"
        try:
            super().__post_init__()
        except (ImportError, OSError, OverflowError, TypeError, ValueError) as error:
            # Of several lines, of files in place of JSON, of packages that are missing.
            raise GAUError(f"transformers refuses these arguments: {' '.join(str(error).split())}") from error
        if is_muon:
            self.optim = MUON
        if self.device.type == "cpu":  # PyTorch would warn that there is nothing to pin memory for
            self.dataloader_pin_memory = False
        self._check_reports()
        self._check_compilation()
        if self.mixed_precision == "fp16" and self.device.type == "cpu":
            raise GAUError(
                "--fp16 (or fp16 in accelerate's configuration) has no effect on a CPU: float32 would be computed. "
                "Give --bf16, or leave it out for float32."
            )

    def _check_reports(self) -> None:
        """Raises ValueError for a logger that is not installed, or a best checkpoint without a measure."""
        installed = get_available_reporting_integrations()
        for name in self.report_to:
            if name not in installed and name not in _UNLISTED_LOGGERS:
                raise GAUError(
                    f"--report_to {name}: there is no such logger, or it is not installed. Installed: "
                    f"{', '.join(installed) or 'none'}. --report_to none leaves it out."
                )
        if self.save_strategy == SaveStrategy.BEST and self.metric_for_best_model is None:
            raise GAUError("--save_strategy best needs --metric_for_best_model, such as loss.")

    def _check_compilation(self) -> None:
        if not self.torch_compile:
            return
        backends = [backend.value.lower() for backend in DynamoBackend]
        if self.torch_compile_backend.lower() not in backends:
            raise GAUError(
                f"--torch_compile_backend {self.torch_compile_backend}: there is no such backend. Allowed: "
                f"{', '.join(backends)}."
            )
        modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
        if self.torch_compile_backend == "inductor" and self.torch_compile_mode not in (None, *modes):
            raise GAUError(
                f"--torch_compile_mode {self.torch_compile_mode}: there is no such mode. Allowed: {', '.join(modes)}."
            )

    def _check_metrics(self) -> None:
        """Raises ValueError for a setting that would drop the metrics of an evaluation, or break them at its end."""
        changed = {
            "prediction_loss_only": self.prediction_loss_only,
            "batch_eval_metrics": self.batch_eval_metrics,
            "eval_do_concat_batches": not self.eval_do_concat_batches,
            "label_names": self.label_names is not None,
        }
        for name in filter(changed.get, changed):
            raise GAUError(
                f"--{name} is not supported here: evaluations report metrics over all rows, from a few numbers a row, "
                "which take next to no memory. Leave it out."
            )

    def fill_learning_rate(self, config: PreTrainedConfig, share: float = 1.0) -> None:
        """Chooses `learning_rate` by the width of the model where none is given, and prints it.

        Args:
            share: of the rate by the width, for a run that begins from trained weights.

        Raises:
            ValueError: the configuration has no width.
        """
        if self.learning_rate is not None:
            return
        try:
            hidden_size = config.hidden_size
        except AttributeError:
            raise GAUError(
                f"--learning_rate is missing: it is chosen by hidden_size, which a {config.model_type} does not have."
            ) from None
        rate, exponent = self.RATE_AT_768
        width = max(hidden_size, 128)  # the smallest that was measured
        reasons = [f"a width of {hidden_size}"]
        if share != 1:
            reasons.append("trained weights")
        if self.optim == MUON and self.RATE_OF_MUON != 1:
            rate *= self.RATE_OF_MUON
            reasons.append("Muon")
        self.learning_rate = float(f"{share * rate * (768 / width) ** exponent:.1e}")
        if self.should_log:
            print(
                f"Learning rate {self.learning_rate:g}, chosen for {' and '.join(reasons)} (--learning_rate gives "
                "another)."
            )

    def check_steps(self) -> None:
        """Raises ValueError for a run that is to train and would make no step."""
        if self.max_steps != -1 and not 1 <= self.max_steps < 2**31:
            raise GAUError(
                f"--max_steps must be from 1 to 2147483647, got {self.max_steps}. Leave it out to train for "
                "--num_train_epochs."
            )
        if self.max_steps == -1 and not 0 < self.num_train_epochs < math.inf:
            raise GAUError(
                f"--num_train_epochs must be a finite number above 0, got {self.num_train_epochs}: nothing would be "
                "trained. Give the number of epochs, or --max_steps."
            )

    def check_optimization(self, **schedule: Any) -> None:
        """Raises ValueError for an optimizer or a schedule of learning rates that cannot be made.

        Args:
            schedule: arguments of the schedule that are filled in later.
        """
        kwargs = {} if self.lr_scheduler_kwargs is None else self.lr_scheduler_kwargs
        pairs = self.optim_args.split(",") if self.optim_args else []
        if not isinstance(kwargs, dict):
            raise GAUError(f"--lr_scheduler_kwargs must be a JSON object, such as '{{\"power\": 2}}', got {kwargs!r}.")
        if any(pair.count("=") != 1 for pair in pairs):
            raise GAUError(f"--optim_args is a list of name=value, got {self.optim_args!r}.")
        try:
            if self.optim == MUON:
                muon_options(self.optim_args)
            elif not _OPTIMIZERS_OF_A_MODEL.match(self.optim):
                Trainer.get_optimizer_cls_and_kwargs(self)
        except GAUError:
            raise
        except (ImportError, ValueError) as error:
            raise GAUError(f"--optim {self.optim.value}: {' '.join(str(error).split())}") from error
        kind, steps = self.lr_scheduler_type, self.max_steps if self.max_steps > 0 else 10_000
        rate = 1e-3 if self.learning_rate is None else self.learning_rate
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        try:
            get_scheduler(kind, optimizer, 0, steps, schedule | kwargs)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise GAUError(
                f"--lr_scheduler_type {kind.value} with --lr_scheduler_kwargs {kwargs}: {' '.join(str(error).split())}"
            ) from error

    def _take_cpu_for_bfloat16(self) -> None:
        """Sets `use_cpu` if bfloat16 is asked for without an accelerator, so that a recipe for GPUs runs anywhere.

        [`TrainingArguments`] refuses the pair. An accelerator without bfloat16 is still refused.
        """
        if self.use_cpu or not (self.bf16 or self.bf16_full_eval):
            return
        if torch.accelerator.is_available() or is_torch_bf16_gpu_available() or is_torch_xla_available():
            return
        self.use_cpu = True
        if int(os.environ.get("RANK", "0")) == 0:
            logger.warning(
                "No accelerator found: computing bfloat16 on the CPU (--use_cpu). A CPU without bfloat16 instructions "
                "is faster with --bf16 false."
            )
