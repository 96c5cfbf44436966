# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Statistics of a model's attention: the normalizers of its scores, and how its weights are spread."""

import math
from collections import defaultdict
from contextlib import ExitStack
from functools import partial

import torch

from ..attention_gau import ATTENTION_NORMALIZATIONS
from ..configuration_gau import GAUError
from ..modeling_gau import GatedAttentionUnit, GAUDistanceBias, GAUPreTrainedModel
from ..unpadding_gau import split_mask, within_window


# name -> quantity averaged over the queries. The last three are of the weights divided by their sum (squared_relu does
# not sum to 1), over the queries that have any weight.
ATTENTION_STATISTICS = {
    "sum_exp": "sum over the keys of exp(score), the normalizer of a softmax; few queries dominate its mean",
    "log_sum_exp": "its logarithm, in which every query counts the same",
    "sum_squared_relu": "sum over the keys of relu(score)^2, the normalizer of a squared ReLU",
    "weight_sum": "sum of the weights",
    "empty": "1 for a query whose weights are all 0",
    "zero_share": "share of weights that are exactly 0",
    "entropy": "entropy of the weights in nats",
    "keys_90": "smallest number of keys that hold 90 percent of the weight",
    "distance": "distance between query and key in tokens, averaged by weight",
}


class AttentionStatistics:
    """Collects the statistics of every layer while a model runs, as a context manager.

    Scores are a_ij = q_i . k_j / sqrt(key_dim), before the normalization uses n. Scores and weights are recomputed in
    float32 for some queries of each row, so memory stays linear in the length. Rows must have no padding.

    Args:
        model: any model of this package.
        queries_per_row: how many evenly spread queries of each row to use.

    Raises:
        ValueError: while the model runs, for padded or packed rows.
    """

    def __init__(self, model: GAUPreTrainedModel, queries_per_row: int = 64):
        self.queries_per_row = queries_per_row
        self.units = [module for module in model.modules() if isinstance(module, GatedAttentionUnit)]
        self._totals = [defaultdict(float) for _ in self.units]
        self._counts = [defaultdict(int) for _ in self.units]
        self._hooks = ExitStack()

    def __enter__(self) -> "AttentionStatistics":
        for number, unit in enumerate(self.units):
            handle = unit.register_forward_pre_hook(partial(self._before_unit, number), with_kwargs=True)
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *exception) -> None:
        self._hooks.close()

    def means(self) -> list[dict[str, float]]:
        """For each layer the mean over the queries of every entry of `ATTENTION_STATISTICS`; NaN without any."""
        return [
            {name: totals[name] / counts[name] if counts[name] else math.nan for name in ATTENTION_STATISTICS}
            for totals, counts in zip(self._totals, self._counts, strict=True)
        ]

    def _before_unit(self, number: int, unit: GatedAttentionUnit, args: tuple, kwargs: dict) -> None:
        self._record(number, unit, *args, **kwargs)

    @torch.no_grad()
    def _record(
        self,
        number: int,
        unit: GatedAttentionUnit,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        query_factor: torch.Tensor | None = None,
        score_shift: torch.Tensor | None = None,
        segments: tuple | None = None,
        **kwargs,
    ) -> None:
        seq, window = hidden_states.shape[1], unit.sliding_window
        if segments is not None or "cu_seq_lens_q" in kwargs or _hides_more(attention_mask, window):
            raise GAUError("Attention statistics need rows without padding, with one sequence a row.")
        base = unit.activation(unit.i_dense(hidden_states)).split(unit.widths, dim=-1)[-1]
        query, key = unit.query_and_key(base, position_embeddings)
        # The middles of equal parts: otherwise the special tokens at both ends would weigh too much.
        count = min(seq, self.queries_per_row)
        places = ((torch.arange(count, device=query.device) + 0.5) * seq / count).long()
        with torch.autocast(query.device.type, enabled=False):
            scores = (query[:, places] @ key.transpose(1, 2)) * unit.scaling  # (batch, query, key)
            query, key = unit.scaled(query, key, position_embeddings, query_factor, score_shift, torch.float32)
            final_scores = query[:, places] @ key.transpose(1, 2)
            if isinstance(unit.position_bias, GAUDistanceBias):
                final_scores += unit.position_bias.at(torch.arange(seq, device=places.device) - places[:, None])
        visible = None
        if window is not None and window < seq:
            visible = (places[:, None] - torch.arange(seq, device=query.device)).abs() < window
        normalization = ATTENTION_NORMALIZATIONS[unit.config.attention_normalization]
        weights = normalization.weights(final_scores, visible, unit.attention_sink)
        for name, values in self._measure(scores, weights, places, visible).items():
            self._totals[number][name] += values.cpu().double().sum().item()
            self._counts[number][name] += values.numel()

    @staticmethod
    def _measure(
        scores: torch.Tensor, weights: torch.Tensor, places: torch.Tensor, visible: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """A value for each query. `scores` and `weights` are `(batch, query, key)`, `places` `(query,)` positions."""
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        total = weights.sum(-1)
        some = total > 0
        share = weights[some] / total[some].unsqueeze(-1)  # (queries with a weight, key)
        distance = (places[:, None] - torch.arange(scores.shape[-1], device=scores.device)).abs().float()
        heaviest = share.sort(-1, descending=True).values.cumsum(-1)
        zeros = weights == 0 if visible is None else (weights == 0) & visible
        keys = scores.shape[-1] if visible is None else visible.sum(-1)
        return {
            "sum_exp": scores.logsumexp(-1).cpu().double().exp(),
            "log_sum_exp": scores.logsumexp(-1),
            "sum_squared_relu": scores.relu().square().sum(-1),
            "weight_sum": total,
            "empty": (~some).float(),
            "zero_share": zeros.sum(-1) / keys,
            "entropy": torch.special.entr(share).sum(-1),
            "keys_90": (heaviest < 0.9).sum(-1).float() + 1,
            "distance": (share * distance.expand(scores.shape)[some]).sum(-1),
        }


def _hides_more(attention_mask: object, window: int | None) -> bool:
    """Whether a mask, in any backend's form, hides a key inside the layer's window or adds to the scores."""
    if not isinstance(attention_mask, torch.Tensor):  # a BlockMask of FlexAttention, which windows need as well
        return attention_mask is not None and window is None
    if attention_mask.ndim == 2:  # FlashAttention
        return not bool(attention_mask.all())
    bias, seen = split_mask(attention_mask)
    if seen.shape[2] > 1:
        visible = within_window(None, *seen.shape[2:], window, seen.device)
        seen = seen if visible is None else seen | ~visible
    return not bool(seen.all()) or (bias is not None and bool(bias.any()))
