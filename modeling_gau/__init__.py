"""Gated Attention Unit encoders for Hugging Face Transformers."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_gau import GAUConfig
from .modeling_gau import (
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
    GAUPreTrainedModel,
)


__version__ = "0.1.0"

AutoConfig.register("gau", GAUConfig, exist_ok=True)
# Registered for remote code as well: `save_pretrained` and `push_to_hub` then write these files beside the weights,
# and the checkpoint loads with `trust_remote_code=True` where this package is not installed.
GAUConfig.register_for_auto_class()
for _auto_class, _model_class in (
    (AutoModel, GAUModel),
    (AutoModelForMaskedLM, GAUForMaskedLM),
    (AutoModelForMultipleChoice, GAUForMultipleChoice),
    (AutoModelForQuestionAnswering, GAUForQuestionAnswering),
    (AutoModelForSequenceClassification, GAUForSequenceClassification),
    (AutoModelForTokenClassification, GAUForTokenClassification),
):
    _auto_class.register(GAUConfig, _model_class, exist_ok=True)
    _model_class.register_for_auto_class(_auto_class.__name__)

__all__ = [
    "GAUConfig",
    "GAUForMaskedLM",
    "GAUForMultipleChoice",
    "GAUForQuestionAnswering",
    "GAUForSequenceClassification",
    "GAUForTokenClassification",
    "GAUModel",
    "GAUPreTrainedModel",
]
