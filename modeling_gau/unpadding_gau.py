# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""A batch without its padding: the real tokens of all rows end to end, `(1, tokens)`."""

from dataclasses import dataclass

import torch


# Operations that one more sequence costs in each layer, since its attention is a product of its own: on one core, with
# sequences of 6 to 64 tokens and widths of 128 to 512, taking out padding began to pay there.
_OPERATIONS_OF_A_SEQUENCE = 20e6


@dataclass(frozen=True)
class RealTokens:
    """The real tokens of a batch, in the order of its rows.

    Args:
        lengths: of the sequences that are not empty.
        shape: of the batch, (batch, seq).
        positions: of the real tokens in the flattened batch, int64 `(tokens,)`.
    """

    lengths: tuple[int, ...]
    shape: tuple[int, int]
    positions: torch.LongTensor

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(1, tokens, ...)` from `(batch, seq, ...)`."""
        return tensor.flatten(0, 1).index_select(0, self.positions).unsqueeze(0)

    def put_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, seq, ...)` from `(1, tokens, ...)`, 0 where there is padding."""
        tokens = tensor.squeeze(0)
        padded = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])
        return padded.index_copy(0, self.positions.to(tokens.device), tokens).unflatten(0, self.shape)

    def key_count(self) -> torch.Tensor:
        """For each token the length of its sequence, int64 `(1, tokens, 1)`."""
        lengths = torch.tensor(self.lengths, device=self.positions.device)
        return lengths.repeat_interleave(lengths)[None, :, None]


def real_tokens(attention_mask: torch.Tensor, layer_parameters: int) -> RealTokens | None:
    """The real tokens of a padded batch; `None` where computing the padding costs less than going without.

    Args:
        attention_mask: `(batch, seq)`, not 0 for real tokens.
        layer_parameters: of one layer, which a token goes through with twice as many operations.
    """
    real = attention_mask != 0
    lengths = tuple(length for length in real.sum(-1).tolist() if length)
    saved = 2.0 * layer_parameters * (real.numel() - sum(lengths))
    if not lengths or saved <= _OPERATIONS_OF_A_SEQUENCE * len(lengths):
        return None
    return RealTokens(lengths, tuple(real.shape), real.flatten().nonzero().squeeze(1))
