# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from modeling_gau import GAUConfig
from modeling_gau.configuration_gau import GAUError
from modeling_gau.glue.model import _check_pooling
from modeling_gau.glue.tasks import GLUE_TASKS


@pytest.mark.parametrize(
    ("pooling", "task", "types", "is_refused"),
    [
        ("pair", "mrpc", [0, 0, 0], True),
        ("pair", "mrpc", None, True),
        ("pair", "mrpc", [0, 0, 1], False),
        ("pair", "sst2", None, False),
        ("mean", "mrpc", None, False),
    ],
)
def test_pairs_are_compared_only_with_token_types(pooling, task, types, is_refused):
    encoding = {"input_ids": [1, 2, 3]} | ({} if types is None else {"token_type_ids": types})
    data = SimpleNamespace(task=GLUE_TASKS[task], tokenizer=lambda *texts: encoding)
    with pytest.raises(GAUError, match="token type 1") if is_refused else nullcontext():
        _check_pooling(GAUConfig(classifier_pooling=pooling), data)
