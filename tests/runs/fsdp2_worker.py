# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Trains a tiny model with FSDP2 on the CPU, in as many processes as asked for; `test_fsdp2.py` reads the results.

    python tests/runs/fsdp2_worker.py <directory> '{"config": {...}, "runs": [{"name": "run", "processes": 2, ...}]}'

Runs follow each other, in forks of this process, which has imported everything once. Each has the environment that
`accelerate launch --config_file configuration/accelerate/fsdp2.yaml` gives, and differs from a run on accelerators in
one thing: accelerate takes FSDP2 into account only where it has found several accelerators, so it is told so.
"""

import gc
import json
import os
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from datasets import Dataset
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.multiprocessing import start_processes


ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # run as a script, of which only the own directory is on the path

from modeling_gau import GAUConfig, GAUForMaskedLM  # noqa: E402
from modeling_gau.pretraining.model import repeat_first_token_type  # noqa: E402
from modeling_gau.runs.arguments import RunArguments  # noqa: E402
from modeling_gau.runs.trainer import RunTrainer  # noqa: E402


ROWS_PER_STEP = 8


def make_rows() -> Dataset:
    """Rows with very different numbers of labels: a mean of the processes' means is not the mean of the step."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for i in range(40):
        ids = torch.arange(i, i + 16) % 90 + 5
        chosen = torch.rand(16, generator=generator) < (0.1 if i % 4 else 0.9)
        chosen[0] = True
        rows.append({"input_ids": ids.masked_fill(chosen, 4).tolist(), "labels": ids.where(chosen, -100).tolist()})
    return Dataset.from_list(rows)


def launch_environment(processes: int, sharding: str) -> dict[str, str]:
    launch = ["--config_file", str(ROOT / "configuration" / "accelerate" / "fsdp2.yaml")]
    launch += ["--num_processes", str(processes), "--fsdp_state_dict_type", sharding, __file__]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(launch))
    environment = prepare_multi_gpu_env(args)
    return {key: environment[key] for key in environment if key.startswith(("ACCELERATE_", "FSDP_"))}


def train(rank: int, port: int, directory: str, config: dict, run: dict) -> None:
    """One process of a run. The first one writes `result.json` and `logits.pt` into the run's directory, and the
    state of the optimizer where it is whole."""
    run = dict(run)
    name, processes, sharding, resume = (run.pop(key, None) for key in ("name", "processes", "sharding", "resume"))
    settings = {"max_steps": 6, "save_steps": 2, "learning_rate": 1e-2} | run
    if sharding is not None:
        os.environ |= launch_environment(processes, sharding)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        settings["accelerator_config"] = {"use_configured_state": True}
    torch.manual_seed(0)
    output_dir = Path(directory) / name
    trainer = RunTrainer(
        model=GAUForMaskedLM(GAUConfig(**config)),
        args=RunArguments(
            output_dir=str(output_dir),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
            per_device_train_batch_size=ROWS_PER_STEP // processes,
            **settings,
        ),
        train_dataset=make_rows(),
    )
    angles = []
    trainer.model.model.layers[0].gau.register_forward_pre_hook(
        lambda module, args, kwargs: angles.append(kwargs["position_embeddings"][0].dtype), with_kwargs=True
    )
    trainer.train(resume_from_checkpoint=resume and str(Path(directory) / resume))
    result = describe(trainer) | {"angles": str(angles[0])}
    with torch.no_grad():  # as an evaluation leaves the model
        trainer.model.eval()(torch.arange(4, 24)[None])
    repeat_first_token_type(trainer.model, [trainer.model.model.embeddings.token_type_embeddings])
    trainer.save_model()
    with torch.no_grad():
        logits = trainer.model.eval()(torch.arange(4, 24)[None]).logits
    if rank == 0:
        torch.save(logits.float(), output_dir / "logits.pt")
        (output_dir / "result.json").write_text(json.dumps(result))
    if sharding is None:
        torch.save(trainer.optimizer.state_dict()["state"], output_dir / "optimizer_state.pt")
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def describe(trainer: RunTrainer) -> dict:
    model = trainer.model
    held = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in model.parameters())
    states = [value for state in trainer.optimizer.state.values() for value in state.values() if value.ndim]
    held_states = sum(s.to_local().numel() if isinstance(s, DTensor) else s.numel() for s in states)
    shares = [[held, held_states]]
    if dist.is_initialized():
        shares = [None] * dist.get_world_size()
        dist.all_gather_object(shares, [held, held_states])
    return {
        "steps": [(log["loss"], log["grad_norm"]) for log in trainer.state.log_history if "loss" in log],
        "shares": shares,
        "parameters": sum(p.numel() for p in model.parameters()),
        "units": [name for name, module in model.named_modules() if isinstance(module, FSDPModule)],
        "tied": model.decoder.weight is model.model.embeddings.word_embeddings.weight,
    }


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


if __name__ == "__main__":
    gc.freeze()  # accelerate collects garbage in every run, which takes longest over what the imports made
    method = "fork" if sys.platform == "linux" else "spawn"
    plan = json.loads(sys.argv[2])
    for run in plan["runs"]:
        start_processes(
            train, (free_port(), sys.argv[1], plan["config"], run), nprocs=run["processes"], start_method=method
        )
        print(f"{run['name']}: done", flush=True)
