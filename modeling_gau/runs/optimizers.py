# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`--optim muon`: Muon for the matrices of the encoder, AdamW for everything else, as one optimizer.

`torch.optim.Muon` will not do: it takes only matrices, needs torch 2.9, treats a fused projection as one matrix, and
orthogonalizes one matrix at a time in bfloat16, far slower than float32 on a CPU without bfloat16 instructions.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import TrainingArguments

from ..configuration_gau import GAUError


MUON = "muon"  # of --optim
# Of --optim_args: type and allowed values.
_OPTIONS = {"momentum": (float, lambda value: 0 <= value < 1), "ns_steps": (int, lambda value: 1 <= value <= 20)}
_AT_ONCE = 16  # matrices; whole ones, also where parameters are sharded
# Coefficients of Keller Jordan, kellerjordan.github.io/posts/muon.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Linear layers of transformers' encoders that hold several matrices one below the other, by model type. A GAU states
# its widths.
_PARTS = {"modernbert": {"Wqkv": 3, "Wi": 2}, "deberta": {"in_proj": 3}}


class MuonAdamW(torch.optim.AdamW):
    r"""AdamW, with Muon for the parameter groups that have `row_blocks`.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): with a gradient G, momentum \\(\\mu\\) and learning
    rate \\(\\eta\\),

    $$B \leftarrow \mu B + (1 - \mu) G, \qquad W \leftarrow (1 - \eta \lambda) W - 0.2 \eta \sqrt{\max(rows, columns)}
    \; \mathrm{orthogonalize}(\mu B + (1 - \mu) G)$$

    The factor gives an update the size that AdamW's has (Liu et al. 2025, arXiv:2502.16982, section 2.2), so that
    learning rate and weight decay \\(\\lambda\\) mean the same to both.

    Args:
        params: parameter groups. In one with `row_blocks` every parameter consists of matrices of these many rows, one
            below the other, each of which is orthogonalized on its own.
        momentum: \\(\\mu\\).
        ns_steps: iterations of [`orthogonalize`].
        kwargs: of [`torch.optim.AdamW`].
    """

    def __init__(self, params: Iterable[dict], momentum: float = 0.95, ns_steps: int = 5, **kwargs):
        super().__init__(params, **kwargs)
        # A fused AdamW leaves overflows of float16 to its kernel, which does not see the matrices: let the scaler skip
        # the step.
        self._step_supports_amp_scaling = False
        for group in self.param_groups:
            if "row_blocks" in group:
                group |= {"momentum": group.get("momentum", momentum), "ns_steps": group.get("ns_steps", ns_steps)}

    def __setstate__(self, state):
        # AdamW looks for its own numbers in the state of every parameter.
        super().__setstate__(state | {"param_groups": [g for g in state["param_groups"] if "row_blocks" not in g]})
        self.param_groups = state["param_groups"]

    @torch.no_grad()
    def step(self, closure=None):
        groups = self.param_groups
        self.param_groups = [group for group in groups if "row_blocks" not in group]
        try:
            # Without the wrappers around it, which would call the hooks of a step a second time.
            loss = inspect.unwrap(torch.optim.AdamW.step)(self, closure)
        finally:
            self.param_groups = groups
        for group in groups:
            by_shape = defaultdict(list)
            for parameter in group["params"] if "row_blocks" in group else ():
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                for start in range(0, len(parameters), _AT_ONCE):
                    self._step_together(parameters[start : start + _AT_ONCE], group)
        return loss

    def _step_together(self, parameters: Sequence[nn.Parameter], group: dict) -> None:
        directions = torch.stack([self._direction(parameter, group) for parameter in parameters])
        blocks = [orthogonalize(block, group["ns_steps"]) for block in directions.split(group["row_blocks"], dim=1)]
        updates = torch.cat([0.2 * max(block.shape[1:]) ** 0.5 * block for block in blocks], dim=1)
        for parameter, update in zip(parameters, updates, strict=True):
            self._apply(parameter, update, group)

    def _direction(self, parameter: nn.Parameter, group: dict) -> torch.Tensor:
        """Nesterov's momentum, the whole matrix."""
        state, momentum = self.state[parameter], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        direction = parameter.grad.lerp(buffer, momentum)
        return direction.full_tensor() if isinstance(direction, DTensor) else direction

    @staticmethod
    def _apply(parameter: nn.Parameter, update: torch.Tensor, group: dict) -> None:
        if isinstance(parameter, DTensor):
            # Every process has computed the same update and keeps its shard.
            update = distribute_tensor(update, parameter.device_mesh, parameter.placements, src_data_rank=None)
        rate = group["lr"]
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(update.to(parameter.dtype) * rate)


def orthogonalize(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly: the singular values become 0.7 to 1.2, by `steps` iterations of
    Newton and Schulz with a polynomial of degree 5.

    Args:
        matrices: `(batch, rows, columns)`. Computed in float32 on CPUs and Apple's GPUs and in bfloat16 elsewhere.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT, steps).mT
    a, b, c = _COEFFICIENTS
    dtype = torch.float32 if matrices.device.type in ("cpu", "mps") else torch.bfloat16
    x = matrices.to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def muon_groups(model: nn.Module, decaying: Sequence[str], weight_decay: float) -> list[dict]:
    """Parameter groups of [`MuonAdamW`]: the linear layers of the encoder (`model.base_model`) by their blocks, and
    the rest with and without weight decay: embeddings, heads (BERT's pooler is one), vectors.

    Args:
        decaying: names of the parameters with weight decay.
    """
    encoder = getattr(model, "base_model", model)
    blocks: dict[nn.Parameter, tuple[int, ...]] = {}
    known_parts = _PARTS.get(model.config.model_type, {})
    for path, parent in encoder.named_modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear) and layer.weight.requires_grad and "pooler" not in path:
                rows, parts = layer.out_features, known_parts.get(name, 1)
                widths = getattr(parent, "widths", None) if name == "i_dense" else None
                blocks[layer.weight] = tuple(widths or [rows // parts] * parts)
    groups, by_blocks = {True: [], False: []}, defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            target = by_blocks[blocks[parameter]] if parameter in blocks else groups[name in decaying]
            target.append(parameter)
    return [
        *({"params": params, "row_blocks": rows, "weight_decay": weight_decay} for rows, params in by_blocks.items()),
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def muon_options(optim_args: str | None) -> dict[str, float | int]:
    """`--optim_args` of Muon. Raises ValueError for one that it does not have, or a value out of range."""
    options: dict[str, float | int] = {}
    for pair in filter(None, (optim_args or "").replace(" ", "").split(",")):
        name, _, text = pair.partition("=")
        try:
            kind, is_allowed = _OPTIONS[name]
            options[name] = kind(text)
            if not is_allowed(options[name]):
                raise ValueError
        except (KeyError, ValueError):
            raise GAUError(
                f"--optim_args {pair}: --optim muon has momentum (from 0 to below 1, 0.95 by default) and ns_steps "
                "(from 1 to 20, 5 by default)."
            ) from None
    return options


def make_muon(model: nn.Module, decaying: Callable[[nn.Module], list[str]], args: TrainingArguments) -> MuonAdamW:
    """The optimizer of `--optim muon`. `--learning_rate` and `--weight_decay` hold for matrices and for the rest."""
    return MuonAdamW(
        muon_groups(model, decaying(model), args.weight_decay),
        **muon_options(args.optim_args),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=args.device.type in ("cpu", "cuda"),
    )
