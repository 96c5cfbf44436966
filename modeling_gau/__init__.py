"""Gated Attention Unit encoders for Hugging Face Transformers."""

import sys


if sys.argv[:1] == ["-m"]:  # Python is about to run a module: one of ours answers --help before the imports below
    from .runs.options import answer_module

    answer_module(sys.argv, sys.orig_argv)

import transformers

from .configuration_gau import GAUConfig, GAUError
from .modeling_gau import (
    AUTO_CLASSES,
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
    GAUPreTrainedModel,
)


__version__ = "0.1.0"

transformers.AutoConfig.register("gau", GAUConfig, exist_ok=True)
# Registered for remote code as well: `save_pretrained` and `push_to_hub` then write these files beside the weights,
# and the checkpoint loads with `trust_remote_code=True` where this package is not installed.
GAUConfig.register_for_auto_class()
for _name, _model_class in AUTO_CLASSES.items():
    getattr(transformers, _name).register(GAUConfig, _model_class, exist_ok=True)
    _model_class.register_for_auto_class(_name)

__all__ = [
    "GAUConfig",
    "GAUError",
    "GAUForMaskedLM",
    "GAUForMultipleChoice",
    "GAUForQuestionAnswering",
    "GAUForSequenceClassification",
    "GAUForTokenClassification",
    "GAUModel",
    "GAUPreTrainedModel",
]
