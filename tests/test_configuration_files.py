# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.glue.arguments import GlueArguments
from modeling_gau.glue.study import StudyArguments
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.modeling_gau import GAULayer
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.text.arguments import DataArguments


CONFIGURATION = Path(__file__).parents[1] / "configuration"

# Millions of parameters: of the whole model, and of its layers alone. See the table of presets in README.md.
PRESET_SIZES = {
    "gau-tiny": (3.4, 1.9),
    "gau-small": (28.7, 13.1),
    "gau-base": (110.7, 87.3),
    "gau-alpha-base": (96.5, 87.3),
}

SCRIPT_ARGUMENTS = {
    "run_pretrain.py": (ModelArguments, DataArguments, CardArguments, PretrainingArguments),
    "run_glue.py": (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments),
}


OWN_FILES = ("my-csv", "my-labels", "my-pairs", "my-scores")


def preset_paths() -> list[Path]:
    return sorted((CONFIGURATION / "models").iterdir())


def recipe_paths() -> list[Path]:
    """All but the files of whole studies, which test_length_study.py reads: they hold no arguments of one script."""
    paths = sorted((CONFIGURATION / "recipes").glob("*/*"))
    return [path for path in paths if not path.match("study/study*.yaml")]


def stated_command(recipe: Path) -> list[str]:
    """The command that the header of a recipe tells the reader to run, as words."""
    header = recipe.read_text(encoding="utf-8").split("\n\n")[0].replace("\\\n#", "")
    line = next(line for line in header.splitlines() if re.search(r"\brun_\w+\.py\s+--config ", line))
    words = re.search(r"\b(python|accelerate launch) .*", line)[0]
    return shlex.split(re.sub("<[^>]*>", "placeholder", words))


def test_every_preset_has_a_stated_size():
    assert {path.name for path in preset_paths()} == set(PRESET_SIZES)


@pytest.mark.parametrize("path", preset_paths(), ids=lambda path: path.name)
def test_preset_has_its_stated_size_and_only_fields_that_it_changes(path):
    with torch.device("meta"):
        model = GAUForMaskedLM(GAUConfig.from_pretrained(path))
    model.tie_weights()
    sizes = (sum(parameter.numel() for parameter in part.parameters()) for part in (model, model.model.layers))
    assert tuple(round(size / 1e6, 1) for size in sizes) == PRESET_SIZES[path.name]
    fields = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert fields.pop("model_type") == "gau"
    default = GAUConfig().to_dict()
    assert {name for name, value in fields.items() if value == default.get(name, value)} == set()


def test_alpha_preset_is_the_published_model():
    """Shape of GAU-alpha base (kexue.fm/archives/9052), spelt out: a changed default must not change it."""
    published = {
        "vocab_size": 12000,
        "hidden_size": 768,
        "intermediate_size": 1536,
        "attention_key_size": 128,
        "num_hidden_layers": 24,
        "hidden_act": "silu",
        "attention_normalization": "softmax_plus",
        "softmax_plus_min_length": 1,
        "reference_length": 512,
        "fixed_n": None,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "use_bias": False,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    config = GAUConfig.from_pretrained(CONFIGURATION / "models" / "gau-alpha-base").to_dict()
    assert {name: config[name] for name in published} == published


@pytest.mark.parametrize("path", recipe_paths(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe_and_its_command_parse(path, monkeypatch):
    monkeypatch.chdir(CONFIGURATION.parent)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert all(f"# {word}:" in header for word in ("Command", "Hardware", "Time"))
    command = stated_command(path)
    (script,) = set(command) & set(SCRIPT_ARGUMENTS)
    words = command[command.index(script) + 1 :]
    assert Path(words[words.index("--config") + 1]).resolve() == path
    # A recipe for a GPU must parse where there is none.
    model_arguments, *others, arguments = parse_arguments(SCRIPT_ARGUMENTS[script], [*words, "--use_cpu"])
    assert arguments.output_dir
    assert model_arguments.config_name in (None, *PRESET_SIZES)
    if path.parent.name == "glue":
        glue_arguments, _, study = others
        assert path.stem in ("clue", "glue", "tiny-cpu", *OWN_FILES) or path.stem == glue_arguments.task_name
        assert arguments.do_train and arguments.do_eval
        if study.seeds is None:
            assert arguments.load_best_model_at_end
            assert arguments.metric_for_best_model == GlueTrainingArguments.KEY_METRIC


def test_there_is_a_recipe_for_every_script():
    recipes = {(path.parent.name, path.stem) for path in recipe_paths()}
    assert {script for script, _ in recipes} == {"glue", "pretrain", "study"} and ("pretrain", "quickstart") in recipes
    assert {name for script, name in recipes if script == "glue"} == {"clue", "cola", "glue", "sst2", "tiny-cpu"} | {
        *OWN_FILES
    }


@pytest.mark.parametrize(
    ("name", "distributed_type", "machines"),
    [
        ("cpu", DistributedType.NO, 1),
        ("ddp", DistributedType.MULTI_GPU, 1),
        ("fsdp2", DistributedType.FSDP, 1),
        ("multi_node", DistributedType.MULTI_GPU, 2),
    ],
)
def test_accelerate_file_loads(name, distributed_type, machines):
    path = CONFIGURATION / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert (config.distributed_type, config.num_machines) == (distributed_type, machines)
    assert config.num_processes % machines == 0
    # Precision is the recipe's business.
    assert config.mixed_precision == "no"
    launcher = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) <= launcher


def test_no_accelerate_file_is_untested():
    assert {path.stem for path in (CONFIGURATION / "accelerate").iterdir()} == {"cpu", "ddp", "fsdp2", "multi_node"}


def test_fsdp_wraps_the_layers_of_the_model():
    options = load_config_from_file(str(CONFIGURATION / "accelerate" / "fsdp2.yaml")).fsdp_config
    assert options["fsdp_version"] == 2
    # The layers alone: the embedding is tied to the head, and a shared parameter belongs into one FSDP unit, the root.
    assert options["fsdp_transformer_layer_cls_to_wrap"] == GAULayer.__name__
    # The Trainer saves a model under FSDP only from full state dicts.
    assert options["fsdp_state_dict_type"] == "FULL_STATE_DICT"
