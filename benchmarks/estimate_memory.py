"""How much memory does a training step take on each GPU?

    python benchmarks/estimate_memory.py --presets gau-base --lengths 512 2048 8192
    python benchmarks/estimate_memory.py --lengths 8192 --strategies fsdp2 --gpus 16 --checkpointing no yes
    python benchmarks/estimate_memory.py --check --output check.csv    # compares itself with steps on this CPU

Nothing is allocated: forward and backward pass run on fake tensors, which have a shape, a type and a lifetime but no
memory, and every storage is counted when it comes and when it goes. Weights are in float32 with AdamW's two states;
`--precision bf16` computes as `run_pretrain.py --bf16` does: under autocast, and with FSDP2 on weights gathered in
bfloat16. Counted exactly: weights, gradients, optimizer, and what the backward pass keeps (activations), with the
rules of CUDA where they differ from the CPU's. Estimated: scratch memory inside the blocked attention, and FSDP2's
buffers. Not counted: the CUDA context, workspaces of libraries, NCCL and the allocator's rounding, together some GiB.
"""

import argparse
import datetime
import itertools
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass

import torch
from benchmark_memory import peak_resident_bytes, training_step
from measurement import load_preset, make_parser, run_again, write_results
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm.auto import tqdm
from transformers.initialization import no_init_weights

from modeling_gau import GAUConfig, GAUForMaskedLM, attention_gau
from modeling_gau.runs.tables import aligned, markdown


MIB, GIB = 2**20, 2**30
IGNORED_LABEL = -100


@dataclass(frozen=True)
class Step:
    """A training step of one device: `rows` sequences of `length` tokens."""

    length: int
    rows: int
    precision: str = "bf16"
    checkpointing: bool = False
    sharded: bool = False  # as under FSDP2: no autocast, gradients are given away as soon as they are complete
    mask: str = "none"
    mlm_probability: float = 0.15
    device: str = "cuda"  # whose rules to follow

    @property
    def labelled(self) -> int:
        return max(1, round(self.mlm_probability * self.rows * self.length))


@dataclass(frozen=True)
class StepMemory:
    """Bytes, weights and optimizer not among them.

    Args:
        activations: kept from the forward for the backward pass.
        peak: activations, gradients and intermediate results at the worst moment.
    """

    activations: int
    peak: int


@dataclass
class Estimate:
    """Bytes on one GPU. The peak is not the sum of the others: gradients come as activations go."""

    weights: int
    gradients: int
    optimizer: int
    communication: int
    activations: int
    peak: int


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make, from the first to the last use."""

    def __init__(self, model: torch.nn.Module, device: str):
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        # By identity: a storage's own comparison would be by content.
        self.known = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        self.peak = max(self.peak, self.live + attention_scratch(func, args, self.device))
        return output

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.live += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def attention_scratch(func, args: tuple, device: str) -> int:
    """Bytes of scores, weights, dropout masks and their gradients that an operator of `gau_blocked` holds at once."""
    name = str(func)
    if "blocked_attention" not in name:
        return 0
    backward = "backward" in name
    query, key, value, *_, dropout, window = args[1:] if backward else args
    batch, rows, keys = query.shape[0], query.shape[1], key.shape[1]
    budget = attention_gau._BLOCK_ELEMENTS.get(device, attention_gau._BLOCK_ELEMENTS_ACCELERATOR)
    if window:
        block_rows = min(rows, max(attention_gau._MIN_WINDOW_ROWS, window))
        keys = min(keys, block_rows + 2 * window)
        elements = min(batch * block_rows * keys, max(budget, block_rows * keys))
    else:
        elements = min(batch * rows * keys, max(budget, min(attention_gau._MIN_BLOCK_ROWS, rows) * keys))
    several, drops = elements < batch * rows * keys, dropout > 0
    # A block's scores, weights and dropout mask are made while those of the block before it are still there.
    tensors = (2 + drops) * (1 + several) + (2 + drops if backward else 0)
    sums = 0
    if backward and several:
        width = key.shape[2] + value.shape[2]
        # The float32 sum of a sequence; within a window the products of a block and of the one before it.
        sums = 2 * key.element_size() * (elements // block_rows) * width if window else 4 * keys * width
    wanted = [args[0], key, value] if backward else [key, value]
    copies = sum(tensor.numel() * tensor.element_size() for tensor in wanted if not tensor.is_contiguous())
    masks = 3 * elements if window else 0  # bytes: what the window shows, what it hides, and one on the way
    return tensors * elements * query.element_size() + sums + copies + masks


class Rules(TorchFunctionMode):
    """Replaces what cannot run on fake tensors, and does as CUDA does where the CPU does otherwise."""

    def __init__(self, step: Step):
        super().__init__()
        self.labelled = step.labelled
        self.cuda = step.device == "cuda"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.__getitem__ and isinstance(args[1], torch.Tensor) and args[1].dtype == torch.bool:
            # How many positions are labelled depends on the data: here as many as are expected. PyTorch, too, turns a
            # mask into one index for each of its dimensions.
            indices = torch.empty(args[1].ndim, self.labelled, dtype=torch.long)
            return args[0][tuple(indices)]
        if self.cuda and func is F.scaled_dot_product_attention:
            return FusedAttention.apply(*args[:3])
        if self.cuda and func in (torch.Tensor.softmax, torch.softmax) and torch.is_autocast_enabled("cpu"):
            return func(args[0].float(), *args[1:], **kwargs)  # autocast's choice on CUDA, not on the CPU
        if self.cuda and func is F.dropout and kwargs.get("training", True) and kwargs.get("p", 0.5) > 0:
            return torch.native_dropout(args[0], kwargs["p"], True)[0]  # keeps a mask of bytes
        return func(*args, **kwargs)


class FusedAttention(torch.autograd.Function):
    """What a fused kernel takes and keeps: its inputs, its output and a float32 number a row."""

    @staticmethod
    def forward(ctx, query, key, value):
        output = value.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def activation_bytes(model: torch.nn.Module) -> Iterator[list[int]]:
    """Appends to the list it gives the bytes of what the block saves for the backward pass: every storage once,
    parameters and buffers not."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    total = []
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
    total.append(sum(saved.values()))


def replay(config: GAUConfig, step: Step) -> StepMemory:
    """Runs one step of a model on fake tensors."""
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        with no_init_weights():  # draws numbers and looks at them
            model = make_model(config, step)
        live = LiveBytes(model, step.device)
        stack.enter_context(live)
        stack.enter_context(Rules(step))
        return run_step(model, step, live)


def make_model(config: GAUConfig, step: Step) -> GAUForMaskedLM:
    dtype = torch.bfloat16 if step.sharded and step.precision == "bf16" else torch.float32
    model = GAUForMaskedLM._from_config(config, dtype=dtype).train()
    model.config.sparse_prediction = True
    # Asks whether there is padding without a mask, which fake tensors cannot tell.
    model.config.pad_token_id = None
    if step.checkpointing:
        # The backward pass recomputes outside the rules, unless it is told to.
        model.gradient_checkpointing_enable(
            {"use_reentrant": False, "context_fn": lambda: (nullcontext(), Rules(step))}
        )
    return model


def run_step(model: GAUForMaskedLM, step: Step, live: LiveBytes | None) -> StepMemory:
    """Forward and backward pass, on fake tensors or real ones. Without `live` the peak is not known (0)."""
    inputs = make_inputs(model.config, step)
    autocast = step.precision == "bf16" and not step.sharded
    with activation_bytes(model) as activations:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = model(**inputs).loss
    if step.sharded:
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
    loss.backward()
    return StepMemory(activations[0], live.peak if live is not None else 0)


def make_inputs(config: GAUConfig, step: Step) -> dict[str, torch.Tensor]:
    input_ids = torch.randint(5, config.vocab_size, (step.rows, step.length))
    labels = torch.full_like(input_ids, IGNORED_LABEL)
    labels.view(-1)[: step.labelled] = input_ids.view(-1)[: step.labelled]
    inputs = {"input_ids": input_ids, "labels": labels}
    if step.mask == "documents":
        inputs["attention_mask"] = torch.ones(step.rows, 1, step.length, step.length, dtype=torch.bool)
    return inputs


def estimate(config: GAUConfig, step: Step, strategy: str, gpus: int) -> Estimate:
    """Bytes on each of `gpus` devices under a strategy: `none` (one device), `ddp` or `fsdp2`."""
    with torch.device("meta"):
        model = GAUForMaskedLM(config)
    whole = sum(parameter.numel() for parameter in model.parameters()) * 4
    layer = sum(parameter.numel() for parameter in model.model.layers[0].parameters())
    memory = replay(config, step)
    if strategy != "fsdp2":
        # DDP's buckets are a second copy of the gradients, made once and kept.
        buckets = whole if strategy == "ddp" else 0
        return Estimate(whole, whole, 2 * whole, buckets, memory.activations, 3 * whole + buckets + memory.peak)
    shard = -(-whole // gpus)
    root = whole // 4 - layer * config.num_hidden_layers
    width = 2 if step.precision == "bf16" else 4
    # The embeddings stay gathered, beside them a layer, the next one and its transport buffer; then one unit's
    # gradients wait for their sum, beside the float32 buffer that is sent.
    buffers = width * (root + 3 * layer) + (width + 4) * max(root, layer)
    return Estimate(shard, shard, 2 * shard, buffers, memory.activations, 4 * shard + buffers + memory.peak)


def measure(config: GAUConfig, step: Step) -> tuple[StepMemory, int]:
    """The same step on this CPU: what PyTorch's allocator hands out, and by how much the process grows."""
    torch.manual_seed(0)
    model = make_model(config, step)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    training_step(model, 64)
    optimizer.step()
    optimizer.zero_grad()
    before = peak_resident_bytes()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        memory = run_step(model, step, None)
        optimizer.step()
    grown = peak_resident_bytes() - before
    live = peak = 0
    # Amounts as they came (positive) and went (negative), in their order.
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return StepMemory(memory.activations, peak), grown


def check(cells: list[tuple[str, int, int]], backend: str) -> list[dict[str, object]]:
    """Compares estimates with measurements, each in a process of its own."""
    rows = []
    cells = [(*cell, precision) for cell in cells for precision in ("float32", "bf16")]
    for preset, length, count, precision in tqdm(cells, desc="check", unit="step"):
        config = load_config(preset, backend)
        expected = replay(config, Step(length, count, precision, device="cpu"))
        activations, peak, grown = run_again(__file__, "--cell", preset, length, count, precision, backend)
        rows.append({
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, "preset": preset, "length": length,
            "rows": count, "precision": precision, "backend": backend,
            "activations_estimated_mib": round(expected.activations / MIB, 2),
            "activations_measured_mib": round(activations / MIB, 2),
            "peak_estimated_mib": round(expected.peak / MIB, 2), "peak_measured_mib": round(peak / MIB, 2),
            "peak_error_percent": round(100 * (expected.peak / peak - 1), 2),
            "process_growth_mib": round(grown / MIB, 1),
        })  # fmt: skip
    return rows


def load_config(preset: str, backend: str) -> GAUConfig:
    config = load_preset(preset)
    config._attn_implementation = backend
    return config


def estimates(args: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    cells = list(itertools.product(args.presets, args.lengths, args.strategies, args.checkpointing))
    for preset, length, strategy, checkpointing in tqdm(cells, desc="replaying steps", unit="step"):
        count = args.rows or max(1, args.tokens_per_device // length)
        step = Step(length, count, args.precision, checkpointing == "yes", strategy == "fsdp2", args.mask)
        found = estimate(load_config(preset, args.backend), step, strategy, args.gpus)
        rows.append({
            "preset": preset, "length": length, "rows": count, "strategy": strategy,
            "gpus": 1 if strategy == "none" else args.gpus, "precision": args.precision,
            "checkpointing": checkpointing, "backend": args.backend, "mask": args.mask,
            **{f"{name}_gib": round(value / GIB, 2) for name, value in asdict(found).items()},
            "kib_per_token": round(found.activations / 2**10 / (count * length)),
        })  # fmt: skip
    return rows


def show(rows: list[dict[str, object]], columns: list[str], as_markdown: bool) -> None:
    header = [column.replace("_", " ") for column in columns]
    table = [header, *([str(row[column]) for column in columns] for row in rows)]
    print(markdown(table) if as_markdown else aligned(table))


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--presets", nargs="+", default=["gau-small", "gau-base"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--rows", type=int, help="sequences on a device (default: by --tokens_per_device)")
    parser.add_argument("--tokens_per_device", type=int, default=32768)
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp2"], choices=["none", "ddp", "fsdp2"])
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--checkpointing", nargs="+", default=["no"], choices=["no", "yes"],
                        help="recompute each layer in the backward pass")  # fmt: skip
    parser.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    parser.add_argument("--backend", default="gau_auto", choices=["gau_auto", "eager", "gau_blocked", "sdpa"])
    parser.add_argument("--mask", default="none", choices=["none", "documents"], help="documents: packed, kept apart")
    parser.add_argument("--check", action="store_true", help="compare estimates with steps on this CPU")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--cell", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    # The name that every supported release knows.
    warnings.filterwarnings("ignore", message="`gradient_checkpointing_enable`")
    if args.cell:
        preset, length, count, precision, backend = args.cell
        memory, grown = measure(load_config(preset, backend), Step(int(length), int(count), precision, device="cpu"))
        print(memory.activations, memory.peak, grown)
        return
    if args.check:
        rows = check([("gau-tiny", 512, 8), ("gau-tiny", 2048, 2), ("gau-small", 512, 4)], args.backend)
        columns = [name for name in rows[0] if name not in ("date", "torch", "backend")]
    else:
        rows = estimates(args)
        columns = [name for name in rows[0] if name not in ("precision", "backend", "mask")]
        print(f"{args.precision}, attention {args.backend}, mask {args.mask}; GiB on each GPU")
    show(rows, columns, args.markdown)
    write_results(args.output, rows)


if __name__ == "__main__":
    main()
