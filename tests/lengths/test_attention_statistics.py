# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Attention statistics against their formulas, written out in float64."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS
from modeling_gau.lengths import attention_statistics
from modeling_gau.lengths.attention_statistics import ATTENTION_STATISTICS, AttentionStatistics


KEY_DIM, LAYERS = 8, 2
USES_N = [name for name, normalization in ATTENTION_NORMALIZATIONS.items() if normalization.uses_n]
LOCAL = {"sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]}


def make_model(normalization="softmax_plus", backend=None, seed=0, **changes):
    torch.manual_seed(seed)
    config = GAUConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, attention_key_size=KEY_DIM, num_hidden_layers=LAYERS,
        attention_normalization=normalization, reference_length=16, softmax_plus_min_length=4, initializer_range=0.3,
        **changes,
    )  # fmt: skip
    model = GAUForMaskedLM._from_config(config, attn_implementation=backend).eval()
    with torch.no_grad():
        for layer in model.model.layers:  # as made, queries equal keys
            for part in (layer.gau.q_scaleoffset, layer.gau.k_scaleoffset):
                part.weight.normal_(std=2.0)
        for name, parameter in model.named_parameters():
            if "gau" in name and name.endswith("bias"):  # as made, 0
                parameter.normal_(std=0.5)
    return model


def make_ids(length, rows=2, seed=1):
    return torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def units(model):
    return [layer.gau for layer in model.model.layers]


def inputs_of_units(model, ids):
    """The input of each unit, `(batch, seq, hidden)`."""
    found = []
    handles = [unit.register_forward_pre_hook(lambda unit, args: found.append(args[0])) for unit in units(model)]
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return found


# YaRN (arXiv 2309.00071) with a factor of 4 and an original length of 512, for 8 columns: pairs that turn less than
# once in 512 tokens are slowed down to a quarter, those that turn more than 32 times are left, one is between them;
# cos and sin grow by 1 + 0.1 log 4.
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 512}
SLOWER = {"default": 1.0, "yarn": np.array([1, 0.5 + 0.5 / 4, 1 / 4, 1 / 4])}
LARGER = {"default": 1.0, "yarn": 1 + 0.1 * math.log(4)}


def plain(parameter):
    return 0.0 if parameter is None else parameter.detach().double().numpy()


def scores_by_hand(unit, base):
    """a_ij = q_i . k_j / sqrt(s) in float64; pairs of neighbouring columns turn as complex numbers."""
    base, rope_type = base.detach().double().numpy(), unit.config.rope_parameters["rope_type"]
    angles = np.arange(base.shape[1])[:, None] * (10000.0 ** (-np.arange(0, KEY_DIM, 2) / KEY_DIM) * SLOWER[rope_type])

    def turned(scale):
        states = base * plain(scale.weight) + plain(scale.bias)
        return (states[..., ::2] + 1j * states[..., 1::2]) * np.exp(1j * angles) * LARGER[rope_type]

    query, key = turned(unit.q_scaleoffset), turned(unit.k_scaleoffset)
    return np.einsum("biw,bjw->bij", query, key.conj()).real / math.sqrt(KEY_DIM)


def describe_query(scores, weights, place, window):
    """The statistics of one query, from its scores and weights, `(key,)`."""
    keys = [key for key in range(len(scores)) if window is None or abs(key - place) <= window]
    scores, weights = scores[keys], weights[keys]
    found = {
        "sum_exp": sum(math.exp(score) for score in scores),
        "log_sum_exp": math.log(sum(math.exp(score) for score in scores)),
        "sum_squared_relu": sum(max(score, 0) ** 2 for score in scores),
        "weight_sum": sum(weights),
        "empty": float(not any(weights)),
        "zero_share": sum(weight == 0 for weight in weights) / len(keys),
    }
    if not found["empty"]:
        shares = [weight / sum(weights) for weight in weights]
        heaviest = sorted(shares, reverse=True)
        count = next(n for n in range(1, len(shares) + 1) if sum(heaviest[:n]) >= 0.9)
        distance = sum(share * abs(key - place) for share, key in zip(shares, keys, strict=True))
        entropy = -sum(share * math.log(share) for share in shares if share)
        found |= {"entropy": entropy, "keys_90": count, "distance": distance}
    return found


def expected_means(model, batches, queries_per_row):
    """The means by hand: weights are those that the eager backend returns, scores are computed anew."""
    values = [{name: [] for name in ATTENTION_STATISTICS} for _ in range(LAYERS)]
    for ids in batches:
        with torch.no_grad():
            attentions = model(ids, output_attentions=True).attentions
        hidden, seq = inputs_of_units(model, ids), ids.shape[1]
        count = min(seq, queries_per_row)
        places = [(2 * part + 1) * seq // (2 * count) for part in range(count)]  # middles of equal parts
        for layer, unit in enumerate(units(model)):
            projected = hidden[layer].double() @ unit.i_dense.weight.double().T + torch.as_tensor(
                plain(unit.i_dense.bias)
            )
            scores = scores_by_hand(unit, (projected * projected.sigmoid())[..., -KEY_DIM:])
            weights = attentions[layer][:, 0].double().numpy()
            window = model.config.sliding_window if unit.is_local else None
            for row in range(len(ids)):
                for place in places:
                    for name, value in describe_query(scores[row, place], weights[row, place], place, window).items():
                        values[layer][name].append(value)
    return [{name: np.mean(found) if found else math.nan for name, found in of.items()} for of in values]


def collect(model, batches, queries_per_row=64, **arguments):
    with AttentionStatistics(model, queries_per_row) as statistics, torch.no_grad():
        for ids in batches:
            model(ids, **arguments)
    return statistics.means()


def assert_same(means, expected, **tolerances):
    assert len(means) == len(expected) == LAYERS
    for ours, theirs in zip(means, expected, strict=True):
        assert list(ours) == list(ATTENTION_STATISTICS)
        assert ours == pytest.approx(theirs, nan_ok=True, **tolerances)


CASES = [
    (normalization, fixed_n, changes)
    for normalization in ATTENTION_NORMALIZATIONS
    for fixed_n in ((None, 40) if normalization in USES_N else (None,))
    for changes in ({}, LOCAL, {"use_bias": True}, {"rope_parameters": YARN})
]
CASES += [
    ("softmax", None, {"relative_position_bias": "distance", "relative_position_bias_max_distance": 4, **LOCAL}),
    ("squared_relu", None, {"relative_position_bias": "rotary", "query_key_offset_init": 1.0}),
]


@pytest.mark.parametrize(("normalization", "fixed_n", "changes"), CASES)
def test_statistics_equal_the_formulas(normalization, fixed_n, changes):
    model = make_model(normalization, fixed_n=fixed_n, **changes).double()
    batches = [make_ids(21), make_ids(12, rows=3, seed=2)]  # queries count alike, whatever their row
    expected = expected_means(model, batches, 5)
    assert_same(collect(model, batches, 5), expected, rel=1e-6, abs=1e-9)
    # Scores and weights that differ, so that nothing comes out by symmetry.
    for layer in expected:
        assert layer["log_sum_exp"] > 0.2 + math.log(7) and layer["keys_90"] < 15
        if normalization in ("squared_relu", "normalized_squared_relu") and "relative_position_bias" not in changes:
            assert 0.1 < layer["zero_share"] < 0.9
        elif "softmax" in normalization or normalization == "sigmoid":
            assert layer["zero_share"] == 0
        if normalization in ("softmax", "softmax_plus", "normalized_squared_relu"):
            assert layer["weight_sum"] == pytest.approx(1 - layer["empty"])


@pytest.mark.parametrize("normalization", USES_N)
def test_n_changes_the_weights_but_not_the_scores(normalization):
    batches, means = [make_ids(21)], {}
    for fixed_n in (None, 21, 2000):
        means[fixed_n] = collect(make_model(normalization, fixed_n=fixed_n), batches)[0]
    assert means[None] == means[21]
    for name in ("sum_exp", "log_sum_exp", "sum_squared_relu"):
        assert means[None][name] == means[2000][name]
    name = "entropy" if "softmax" in normalization else "weight_sum"
    assert means[None][name] > 1.2 * means[2000][name]


@pytest.fixture
def places(monkeypatch):
    """The positions of the queries, for each layer that is measured."""
    found, measured = [], AttentionStatistics._measure
    monkeypatch.setattr(
        AttentionStatistics, "_measure", lambda self, *given: [found.append(given[2].tolist()), measured(*given)][1]
    )
    return found


@pytest.mark.parametrize(
    ("seq", "queries", "expected"),
    [
        (5, 64, [0, 1, 2, 3, 4]), (8, 8, list(range(8))), (8, 4, [1, 3, 5, 7]), (9, 4, [1, 3, 5, 7]), (8, 1, [4]),
        (100, 5, [10, 30, 50, 70, 90]), (12, 5, [1, 3, 6, 8, 10]), (3, 2, [0, 2]),
    ],
)  # fmt: skip
def test_queries_are_the_middles_of_equal_parts(places, seq, queries, expected):
    collect(make_model(), [make_ids(seq)], queries)
    assert places == [expected] * LAYERS


@pytest.mark.parametrize("seq", [1, 7, 8, 9, 15, 16, 17, 18, 33, 59])
def test_first_and_last_token_are_no_queries_of_long_rows(places, seq):
    """[CLS] and [SEP] of trained models have large scores, which would rule the mean."""
    collect(make_model(), [make_ids(seq, rows=1)], 8)
    own = places[-1]
    assert len(own) == len(set(own)) == min(seq, 8) and own == sorted(own)
    # Not at the ends once a row is longer than twice the queries, and there as little as anywhere else.
    assert (0 in own) == (seq < 16) and (seq - 1 in own) == (seq <= 16)
    assert own[0] <= seq / 16 and seq - own[-1] <= seq / 16 + 1


def test_the_sum_of_exponentials_may_leave_the_range_of_float32():
    model = make_model("softmax")
    with torch.no_grad():
        for unit in units(model):
            unit.q_scaleoffset.weight.mul_(20)
    means = collect(model, [make_ids(21)])
    assert all(layer["sum_exp"] < math.inf for layer in means) and max(layer["sum_exp"] for layer in means) > 1e39


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        parts = result if isinstance(result, tuple | list) else [result]
        self.size = max([self.size, *(part.numel() for part in parts if isinstance(part, torch.Tensor))])
        return result


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("changes", [{}, LOCAL])
def test_memory_stays_linear_in_the_length(monkeypatch, changes, with_mask):
    seq, queries, record = 1500, 4, AttentionStatistics._record
    largest = LargestTensor()

    def watched(*args, **kwargs):
        with largest:
            return record(*args, **kwargs)

    monkeypatch.setattr(AttentionStatistics, "_record", watched)
    # A window needs no mask of pairs, but where the backend was given one.
    monkeypatch.setattr(
        attention_statistics, "within_window", lambda *given: pytest.fail("A quadratic mask was made.")
    )
    ids = make_ids(seq, rows=1)
    arguments = {"attention_mask": torch.ones_like(ids)} if with_mask else {}
    collect(make_model(**changes), [ids], queries, **arguments)
    assert 0 < largest.size <= seq * (2 * 32 + KEY_DIM)  # the projection


def test_a_pair_mask_is_compared_with_the_window(monkeypatch):
    calls, real = [], attention_statistics.within_window
    monkeypatch.setattr(attention_statistics, "within_window", lambda *given: [calls.append(given), real(*given)][1])
    model, ids = make_model(backend="eager", **LOCAL), make_ids(21)
    mask = torch.ones(1, 1, 21, 21, dtype=torch.bool)
    assert collect(model, [ids], attention_mask=mask) == collect(model, [ids])
    assert calls
    # What the window hides may be hidden, but no more.
    mask = (torch.arange(21)[:, None] - torch.arange(21)).abs()[None, None] <= 3
    local = make_model(backend="eager", sliding_window=3, layer_types=["sliding_attention"] * LAYERS)
    assert collect(local, [ids], attention_mask=mask) == collect(local, [ids])
    for hiding in (mask & (torch.arange(21) != 4), torch.arange(21)[:, None] - torch.arange(21) < 3):
        with pytest.raises(ValueError, match="rows without padding"), AttentionStatistics(local):
            local(ids, attention_mask=hiding.expand(1, 1, 21, 21))


@pytest.mark.parametrize("normalization", ["squared_relu", "normalized_squared_relu"])
def test_queries_without_a_weight(normalization):
    model, batches = make_model(normalization).double(), [make_ids(12)]
    first, second = units(model)
    with torch.no_grad():
        first.q_scaleoffset.weight.zero_()  # no score is positive
        for part, sign in ((second.q_scaleoffset, -1), (second.k_scaleoffset, 1)):
            part.weight.copy_(sign * torch.tensor([0, 0, 0, 0, 0, 0, 4.0, 4.0]))  # columns that hardly turn
    expected = expected_means(model, batches, 64)
    means = collect(model, batches)
    assert_same(means, expected, rel=1e-6, abs=1e-9)
    assert means[0] == pytest.approx(
        {"sum_exp": 12, "log_sum_exp": math.log(12), "sum_squared_relu": 0, "weight_sum": 0, "empty": 1}
        | {"zero_share": 1, "entropy": math.nan, "keys_90": math.nan, "distance": math.nan},
        nan_ok=True,
    )
    assert 0 < means[1]["empty"] < 1 and means[1]["entropy"] > 0


def test_uniform_weights():
    model = make_model("softmax").double()
    with torch.no_grad():
        for unit in units(model):
            unit.k_scaleoffset.weight.zero_()
    means = collect(model, [make_ids(20)])[1]
    assert means["entropy"] == pytest.approx(math.log(20)) and means["keys_90"] == pytest.approx(18, abs=1)
    distance = np.abs(np.subtract.outer(np.arange(20), np.arange(20))).mean()
    assert means["distance"] == pytest.approx(distance, rel=1e-6)


# The model runs as before


@pytest.mark.parametrize("changes", [{}, LOCAL])
def test_outputs_do_not_change_and_hooks_are_removed(changes):
    model, ids = make_model(**changes), make_ids(21)
    before = model(ids).logits
    with AttentionStatistics(model) as statistics:
        assert all(unit._forward_pre_hooks for unit in units(model))
        during = model(ids).logits
        during.sum().backward()
    assert torch.equal(during, before) and torch.equal(model(ids).logits, before)
    assert not any(unit._forward_pre_hooks or unit._forward_hooks for unit in units(model))
    with_gradient = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model(ids).logits.sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, with_gradient[name]), name
    # What ran outside is not counted.
    means = statistics.means()
    model(make_ids(9))
    assert statistics.means() == means


def test_hooks_are_removed_after_an_error():
    model = make_model()
    with pytest.raises(ZeroDivisionError), AttentionStatistics(model) as statistics:
        raise ZeroDivisionError
    assert not any(unit._forward_pre_hooks for unit in units(model))
    assert len(statistics.means()) == LAYERS
    assert all(math.isnan(value) for layer in statistics.means() for value in layer.values())


@pytest.mark.parametrize("backend", [None, "eager", "sdpa", "gau_blocked"])
@pytest.mark.parametrize("changes", [{}, LOCAL])
def test_every_backend_gives_the_same_statistics(backend, changes):
    batches = [make_ids(21)]
    expected = collect(make_model(**changes), batches)
    assert_same(collect(make_model(backend=backend, **changes), batches), expected, rel=1e-4)


# Padding


@pytest.mark.parametrize("unpad_inputs", [True, False])
@pytest.mark.parametrize("backend", [None, "eager", "sdpa"])
@pytest.mark.parametrize("types", [None, ["full_attention", "sliding_attention"], ["sliding_attention"] * 2])
def test_padding_raises(types, backend, unpad_inputs):
    window = {} if types is None else {"sliding_window": 3, "layer_types": types}
    model, ids = make_model(backend=backend, unpad_inputs=unpad_inputs, **window), make_ids(21)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    with pytest.raises(ValueError, match="rows without padding"), AttentionStatistics(model):
        model(ids, attention_mask=mask)
    # A mask that hides nothing, as tokenizers give one, is no padding.
    assert collect(model, [ids], attention_mask=torch.ones_like(ids)) == collect(model, [ids])


def test_an_additive_mask_raises():
    model, ids = make_model(), make_ids(21)
    bias = torch.zeros(1, 1, 21, 21)
    assert collect(model, [ids], attention_mask=bias) == collect(model, [ids])
    bias[..., 3, 4] = 0.5
    with pytest.raises(ValueError, match="rows without padding"), AttentionStatistics(model):
        model(ids, attention_mask=bias)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_packed_sequences_raise(backend):
    model, ids = make_model(backend=backend), make_ids(20, rows=1)
    with pytest.raises(ValueError, match="one sequence a row"), AttentionStatistics(model):
        model(ids, position_ids=torch.arange(20)[None] % 10)
    # As FlashAttention is given them.
    unit, cos = units(model)[0], torch.ones(1, 20, KEY_DIM // 2)
    with pytest.raises(ValueError, match="one sequence a row"), AttentionStatistics(model):
        unit(torch.zeros(1, 20, 16), position_embeddings=(cos, 0 * cos), cu_seq_lens_q=torch.tensor([0, 10, 20]))


# Precision


def test_scores_are_computed_in_float32_under_autocast():
    model, ids = make_model(), make_ids(21)
    with torch.autocast("cpu", torch.bfloat16):
        means = collect(model, [ids])
        hidden = inputs_of_units(model, ids)
        projected = [unit.i_dense(states) for unit, states in zip(units(model), hidden, strict=True)]
    for unit, states, found in zip(units(model), projected, means, strict=True):
        assert states.dtype == torch.bfloat16  # what the base is made of
        base = torch.nn.functional.silu(states)[..., -KEY_DIM:]
        scores = scores_by_hand(unit, base)
        # Scores that are rounded to bfloat16 are off by much more.
        rounded = torch.from_numpy(scores).bfloat16().double().numpy()
        for name, value in {
            "log_sum_exp": lambda scores: np.log(np.exp(scores).sum(-1)).mean(),
            "sum_exp": lambda scores: np.exp(scores).sum(-1).mean(),
            "sum_squared_relu": lambda scores: (scores.clip(min=0) ** 2).sum(-1).mean(),
        }.items():
            assert found[name] == pytest.approx(value(scores), rel=1e-6)
            assert abs(value(rounded) / value(scores) - 1) > 4e-6
    assert collect(model, [ids])[0]["log_sum_exp"] != means[0]["log_sum_exp"]
