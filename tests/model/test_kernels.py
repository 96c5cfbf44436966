# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Triton kernels: in the interpreter and on a GPU (`interpreted_kernels.py`), compiled, refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers.utils.import_utils import is_triton_available

from modeling_gau import kernels_gau
from modeling_gau.attention_gau import ATTENTION_BACKENDS


ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(not is_triton_available(), reason="Triton has no package for this system")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    # Triton reads TRITON_INTERPRET when it is imported, which transformers does, and then for the whole process.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TRITON_"))}
    environment = own | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800
    )


@needs_triton
@pytest.mark.timeout(900)  # some 40 seconds on an idle core, and many times that beside other work
@pytest.mark.parametrize("device", ["interpreter", *(["cuda"] if torch.cuda.is_available() else [])])
def test_kernels_equal_plain_pytorch(device):
    environment = {"TRITON_INTERPRET": "1"} if device == "interpreter" else {}
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/model/interpreted_kernels.py", **environment)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout and "deselected" not in done.stdout


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter takes tensors of the CPU")
def test_tensors_on_the_cpu_are_refused():
    states = [torch.zeros(1, 4, width) for width in (16, 16, 48)]
    with pytest.raises(ValueError, match=r"runs on GPUs, but the tensors are on the CPU.*'gau_blocked' or 'eager'"):
        kernels_gau.triton_attention(*states, None, softmax=True, sum_normalized=False)


def test_the_backend_gets_the_mask_of_padding():
    backend = ATTENTION_BACKENDS["gau_triton"]
    assert backend.mask is ATTENTION_BACKENDS["gau_blocked"].mask  # a backend without one would get no padding


# Compiles every kernel with every launch configuration for an H100, which takes no GPU: the driver is a stand-in that
# names the target, and kernels are compiled for the inputs they are called with, but not launched.
COMPILED = """
import re, subprocess, sys, tempfile
from pathlib import Path

import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

class Hopper:
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device=None: 0
    get_active_torch_device = lambda self: torch.device("cpu")

driver.set_active(Hopper())
from modeling_gau import kernels_gau

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
compile_only = JITFunction.run

def show(name, made, sizes):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made.asm["cubin"])
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True).stdout
    registers, stack = (int(re.search(rf"{what}:([0-9]+)", usage)[1]) for what in ("REG", "STACK"))
    ptx = made.asm["ptx"]
    print(name, sizes, f"registers={registers} stack={stack} shared={made.metadata.shared}",
          f"wgmma={ptx.count('wgmma.mma_async')} mma={ptx.count('mma.sync')}", flush=True)

def run(self, *args, grid, warmup=False, **kwargs):
    self.nargs = dict(zip(self.arg_names, args))
    for config in self.prune_configs(kwargs):
        made = compile_only(self.fn, *args, grid=(1,), warmup=True, **kwargs, **config.all_kwargs())
        show(self.base_fn.__name__, made, f"{config.kwargs} warps={config.num_warps} stages={config.num_stages}")

Autotuner.run = run
JITFunction.run = lambda self, *args, grid, warmup=False, **kwargs: compile_only(
    self, *args, grid=(1,), warmup=True, **kwargs)

for dtype, softmax, dropout in ((torch.bfloat16, True, 0.1), (torch.bfloat16, False, 0.0), (torch.float32, True, 0.0)):
    print(dtype, "softmax" if softmax else "squared_relu", dropout)
    projected = torch.zeros(2, 512, 2 * 1536 + 128, dtype=dtype)
    query, key = torch.zeros(2, 2, 512, 128, dtype=dtype)
    value = projected[..., 1536:3072]
    visible, seed = torch.ones(2, 512, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
    rule = kernels_gau._Rule(softmax, False, dropout)
    inputs = (visible, kernels_gau._visible_bounds(visible), seed if dropout else None, rule)
    output, statistics = kernels_gau._attention(query, key, value, *inputs)
    kernels_gau._attention_gradients(output, query, key, value, output, statistics, *inputs)
"""


@needs_triton
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_compile_for_hopper(tmp_path):
    done = python("-c", COMPILED, TRITON_CACHE_DIR=str(tmp_path))
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    half, single = (
        [line for line in part.splitlines() if "registers=" in line] for part in done.stdout.split("torch.float32")
    )
    assert len(half) > 40 and all(" mma=0" in line and " wgmma=0 " not in line for line in half)
    products = [line for line in half if line.startswith("_product_kernel")]
    assert all(" stack=0 " in line for line in products)  # sums stay in registers
    # Larger ones are left out when kernels are tuned, but of each kernel one has to fit into an H100's shared memory.
    fitting = {line.split()[0] for line in (*half, *single) if int(re.search(r"shared=(\d+)", line)[1]) <= 227 * 1024}
    assert fitting >= {"_statistics_kernel", "_weights_kernel", "_scores_gradient_kernel", "_product_kernel"}
    assert fitting == {line.split()[0] for line in single if int(re.search(r"shared=(\d+)", line)[1]) <= 227 * 1024}
