#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Pretrain an encoder by masked language modelling, on your own text or on a corpus that every installation has.

    python run_pretrain.py --config configuration/recipes/pretrain/quickstart.yaml
    python run_pretrain.py --config_name gau-tiny --train_file notes/ --output_dir out --max_steps 2000
    accelerate launch run_pretrain.py --config configuration/recipes/pretrain/gau-base.yaml --dataset_path corpus/

Every argument of transformers.TrainingArguments is one here. A run always trains and evaluates: --do_train and
--do_eval change nothing.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import datasets
import numpy as np
import transformers
from accelerate.utils import broadcast_object_list
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerState,
    pipeline,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME

from modeling_gau.arguments import DataArguments, ModelArguments, parse_arguments, resolve_config, stated_fields
from modeling_gau.data import (
    load_documents,
    make_blocks,
    make_length_evaluations,
    most_frequent_token_accuracy,
    tokenize_stream,
    train_tokenizer,
)
from modeling_gau.model_card import ModelCardFacts, write_model_card
from modeling_gau.training import (
    EpochMaskingCollator,
    MaskedLMTrainer,
    PretrainingArguments,
    check_fit,
    find_checkpoint,
    load_with_misfits,
    remove_checkpoints,
)


DEFAULT_EVAL_LENGTHS = (64, 128, 256, 512, 1024, 2048)
# Fields that may differ between a checkpoint and the arguments of the run that continues it: what saving adds, and
# what changes how a model is run but not what it computes. The ids of special tokens follow the tokenizer.
BOOKKEEPING_FIELDS = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "sparse_prediction",
    "transformers_version",
    "use_cache",
}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the script with `argv` (the command line by default) and returns what `all_results.json` holds."""
    # 1. Arguments
    model_args, data_args, args = parse_arguments(
        (ModelArguments, PretrainingDataArguments, PretrainingArguments), argv, description=__doc__
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    checkpoint = find_checkpoint(args)
    resolve_config(name_model(model_args, checkpoint))  # a wrong name or override shows before the data is read

    # 2. Data
    data = prepare_data(model_args, data_args, args, checkpoint)

    # 3. Model
    set_seed(args.seed)
    config, saved_sparse_prediction = choose_config(model_args, data_args, args, data.tokenizer, checkpoint)
    model = load_model(model_args, config, data.tokenizer)

    # 4. Train
    if args.overwrite_output_dir:
        remove_checkpoints(args)
    trainer = MaskedLMTrainer(
        model=model,
        args=args,
        tokenizer=data.tokenizer,
        data_collator=EpochMaskingCollator(data.tokenizer, mlm_probability=data_args.mlm_probability, seed=args.seed),
        train_dataset=data.train,
        eval_dataset=data.evaluations[data_args.max_seq_length],
        saved_sparse_prediction=saved_sparse_prediction,
    )
    trained = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_state()

    # 5. Report
    table = length_table(trainer, data, data_args)
    train_metrics = trained.metrics | training_facts(trainer, trained.metrics, checkpoint)
    eval_metrics = evaluation_metrics(table, data_args.max_seq_length)
    trainer.save_metrics("train", train_metrics)
    trainer.save_metrics("eval", eval_metrics)
    if trainer.is_world_process_zero():
        report(trainer, data, model_args, data_args, train_metrics, table)
    if args.push_to_hub:
        trainer.push_to_hub()
    # A process that ends right after its last evaluation can hang: it waits for a thread of Gloo that waits for the
    # interpreter lock to let go of the tensors it gathered. Waiting for the report instead leaves it the time.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return train_metrics | eval_metrics


# Arguments


@dataclass
class PretrainingDataArguments(DataArguments):
    """[`DataArguments`] that remember whether the lengths to evaluate at were asked for or are the default."""

    def __post_init__(self):
        self.eval_lengths_given = self.eval_lengths is not None
        super().__post_init__()


def name_model(model_args: ModelArguments, checkpoint: str | None) -> ModelArguments:
    """The model arguments; a resumed run that names no model takes its checkpoint's."""
    if checkpoint is None or model_args.config_name or model_args.model_name_or_path:
        return model_args
    return ModelArguments(**(vars(model_args) | {"config_name": checkpoint}))


# Data


@dataclass
class PretrainingData:
    """Rows and texts of a run: `evaluations` are masked rows by length, `baseline` the accuracy of the most frequent
    training token on them."""

    tokenizer: PreTrainedTokenizerBase
    train: datasets.Dataset
    evaluations: dict[int, datasets.Dataset]
    baseline: float
    example: str
    answer: str | None


def prepare_data(
    model_args: ModelArguments,
    data_args: PretrainingDataArguments,
    args: PretrainingArguments,
    checkpoint: str | None,
) -> PretrainingData:
    # What the main process reads and tokenises, the others find in the cache.
    with args.main_process_first(desc="reading of the text"):
        documents = load_documents(data_args, args.seed, cache_dir=model_args.cache_dir, token=model_args.token)
    tokenizer = load_tokenizer(model_args, data_args, args, documents["train"], checkpoint)
    example, answer = args.fill_mask_example, None
    if example is None:
        example, answer = mask_a_word(documents["validation"]["text"], tokenizer)
    elif example.count(tokenizer.mask_token) != 1:
        raise ValueError(f"--fill_mask_example needs {tokenizer.mask_token} exactly once, got {example!r}.")
    with args.main_process_first(desc="tokenising"):
        streams = {split: tokenize(split, documents[split], tokenizer, data_args) for split in documents}
    evaluations = make_length_evaluations(
        streams["validation"],
        tokenizer,
        choose_lengths(data_args, args, len(streams["validation"])),
        mlm_probability=data_args.eval_mlm_probability,
        seed=args.seed,
        max_tokens=data_args.max_eval_tokens,
    )
    if args.should_log:
        counts = (
            f"{len(documents[split]):,} {split} documents of {len(streams[split]):,} tokens" for split in streams
        )
        print(f"{' and '.join(counts)}; a vocabulary of {len(tokenizer):,}.")
    return PretrainingData(
        tokenizer=tokenizer,
        train=make_blocks(streams["train"], tokenizer, data_args.max_seq_length),
        evaluations=evaluations,
        baseline=most_frequent_token_accuracy(streams["train"], evaluations[data_args.max_seq_length], tokenizer),
        example=example,
        answer=answer,
    )


def tokenize(
    split: str, documents: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments
) -> np.ndarray:
    return tokenize_stream(
        documents,
        tokenizer,
        num_proc=data_args.preprocessing_num_workers,
        overwrite_cache=data_args.overwrite_cache,
        description=f"Tokenising the {split} text",
    )


def load_tokenizer(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    documents: datasets.Dataset,
    checkpoint: str | None,
) -> PreTrainedTokenizerBase:
    # A resumed run needs the tokenizer it began with, which training one again would give only on the very same text.
    name = model_args.tokenizer_name or checkpoint or model_args.model_name_or_path
    if name is None:
        trained = [None]
        if args.process_index == 0:
            lowercase = data_args.tokenizer_lowercase
            trained = [train_tokenizer(documents, data_args.tokenizer_type, data_args.vocab_size, lowercase)]
        return broadcast_object_list(trained)[0]
    hub = {"cache_dir": model_args.cache_dir, "revision": model_args.revision, "token": model_args.token}
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=model_args.trust_remote_code, **hub)
    missing = [role for role in ("cls", "sep", "mask", "pad") if getattr(tokenizer, f"{role}_token_id") is None]
    if missing:
        raise ValueError(
            f"The tokenizer {name} has no {', '.join(missing)} token, which masked language modelling needs. Take a "
            "tokenizer of the BERT kind, or leave --tokenizer_name out to have one trained."
        )
    return tokenizer


def choose_lengths(data_args: PretrainingDataArguments, args: PretrainingArguments, n_tokens: int) -> list[int]:
    """The lengths to evaluate at, among them that of the training rows; raises ValueError where the validation text of
    `n_tokens` does not fill one row of them."""
    n_tokens = min(n_tokens, data_args.max_eval_tokens or n_tokens)
    asked = {"--max_seq_length": data_args.max_seq_length}
    if data_args.eval_lengths_given:
        asked["--eval_lengths"] = max(data_args.eval_lengths)
    for option, length in asked.items():
        if length - 2 > n_tokens:
            raise ValueError(
                f"{option} {length}: the validation text has only {n_tokens} tokens, too few for one row of that "
                f"length. Lower {option} to {n_tokens + 2} or less, or have more validation text: give a longer "
                "--validation_file, or raise --validation_split_percentage, --max_eval_samples or --max_eval_tokens."
            )
    if data_args.eval_lengths_given:
        return sorted({*data_args.eval_lengths, data_args.max_seq_length})
    lengths = [length for length in DEFAULT_EVAL_LENGTHS if length - 2 <= n_tokens]
    if len(lengths) < len(DEFAULT_EVAL_LENGTHS) and args.should_log:
        left_out = ", ".join(map(str, DEFAULT_EVAL_LENGTHS[len(lengths) :]))
        print(f"No evaluation at length {left_out}: the validation text has only {n_tokens:,} tokens.")
    return sorted({*lengths, data_args.max_seq_length})


def mask_a_word(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, width: int = 160) -> tuple[str, str | None]:
    """A passage of about `width` characters with one word masked, and that word.

    It is the first passage of running text with a word of one token in its second half. Where there is none (in a
    script without spaces, say), the first passage with the character in its middle masked. Passages with a mask token
    of their own are passed over; where all have one, the example is a mask token alone, with no word known for it.
    """
    pieces = (text[start : start + width] for text in map(str.strip, texts) for start in range(0, len(text), width))
    # Without the words that are cut at both ends.
    passages = [" ".join(piece.split()[1:-1]) or piece.strip() for piece in itertools.islice(pieces, 1000)]
    passages = [passage for passage in passages if passage and tokenizer.mask_token not in passage]
    for passage in passages:
        if sum(character.isalpha() or character.isspace() for character in passage) < 0.95 * len(passage):
            continue
        for word in re.finditer(r"\b[^\W\d_]{3,}\b", passage):
            if word.start() > len(passage) / 2 and len(tokenizer.tokenize(f" {word[0]}")) == 1:
                return passage[: word.start()] + tokenizer.mask_token + passage[word.end() :], word[0]
    if not passages:
        return tokenizer.mask_token, None
    passage = passages[0]
    middle = len(passage) // 2
    return passage[:middle] + tokenizer.mask_token + passage[middle + 1 :], passage[middle]


# Model


def choose_config(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: str | None,
) -> tuple[PreTrainedConfig, bool | None]:
    """The configuration to train with, and the `sparse_prediction` to save (None where a model has no such field)."""
    model_args = name_model(model_args, checkpoint)
    base = resolve_config(model_args)
    changes = {}
    if model_args.model_name_or_path is None and model_args.config_name != checkpoint:
        changes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        # Presets leave these to the run; a configuration that states them was given them for a reason.
        lengths = {"reference_length", "max_position_embeddings"} - stated_fields(model_args)
        changes |= dict.fromkeys(sorted(lengths), data_args.max_seq_length)
    overridden = re.findall(r"(?:^|,)\s*(\w+)\s*=", model_args.config_overrides or "")
    changes = {key: value for key, value in changes.items() if key in base.to_dict() and key not in overridden}
    if changes and args.should_log:
        settings = ", ".join(f"{key}={value}" for key, value in changes.items())
        print(f"Set in the configuration from the tokenizer and --max_seq_length: {settings}.")
    if "sparse_prediction" in base.to_dict() and "sparse_prediction" not in overridden:
        changes["sparse_prediction"] = True
    config = resolve_config(model_args, **changes)
    if model_args.model_name_or_path is None and config.vocab_size < len(tokenizer):
        raise ValueError(
            f"The configuration has a vocab_size of {config.vocab_size}, less than the {len(tokenizer)} tokens of the "
            "tokenizer: take it out of --config_overrides."
        )
    if checkpoint is not None:
        # load_model adds the entries that a larger tokenizer needs.
        check_same_model(config, checkpoint, vocab_size=max(config.vocab_size, len(tokenizer)))
    # Sparse prediction is a means to train faster, not a property of the model: a saved model that returned logits for
    # labelled positions only would surprise whoever calls it with labels. Who puts it in the configuration gets it.
    return config, base.sparse_prediction if "sparse_prediction" in base.to_dict() else None


def check_same_model(config: PreTrainedConfig, checkpoint: str, **changes: object) -> None:
    """The Trainer takes the weights from a checkpoint and the configuration from here: they must belong together."""
    saved, given = AutoConfig.from_pretrained(checkpoint).to_dict(), config.to_dict() | changes
    differing = [
        f"{key} ({saved.get(key)} there, {given.get(key)} here)"
        for key in sorted(saved.keys() | given.keys())
        if saved.get(key) != given.get(key) and key not in BOOKKEEPING_FIELDS and not key.endswith("_token_id")
    ]
    if differing:
        raise ValueError(
            f"The checkpoint {checkpoint} holds another model than the arguments describe: {', '.join(differing)}. "
            "Resume with the arguments the run began with, or begin a new run with --model_name_or_path."
        )


def load_model(
    model_args: ModelArguments, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    # Weights, gradients and optimizer states stay in float32 unless asked otherwise; --bf16 computes in bfloat16.
    dtype = model_args.dtype or "float32"
    options = {
        "attn_implementation": model_args.attn_implementation,
        "trust_remote_code": model_args.trust_remote_code,
    }
    if model_args.model_name_or_path is None:
        return AutoModelForMaskedLM.from_config(config, dtype=dtype.replace("auto", "float32"), **options)
    hub = {"cache_dir": model_args.cache_dir, "revision": model_args.revision, "token": model_args.token}
    model, misfits = load_with_misfits(
        AutoModelForMaskedLM, model_args.model_name_or_path, config=config, dtype=dtype, **options, **hub
    )
    check_fit(
        model_args.model_name_or_path,
        misfits,
        "Give a whole masked language model with its own config.json, and no --config_name or --config_overrides that "
        "change shapes; or begin a new model with --config_name alone.",
    )
    if len(tokenizer) > config.vocab_size:
        model.resize_token_embeddings(len(tokenizer))
    return model


# Report


def training_facts(trainer: MaskedLMTrainer, metrics: Mapping[str, float], checkpoint: str | None) -> dict[str, float]:
    """Size of the model, tokens seen, and tokens per second of this call without the evaluations in between."""
    start = TrainerState(global_step=-1)
    if checkpoint is not None:
        start = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
    evaluations = [
        entry["eval_runtime"]
        for entry in trainer.state.log_history
        if "eval_runtime" in entry and entry["step"] > start.global_step
    ]
    tokens = trainer.state.num_input_tokens_seen
    seconds = metrics["train_runtime"] - sum(evaluations)
    return {
        "train_tokens": tokens,
        "train_tokens_per_second": round((tokens - start.num_input_tokens_seen) / seconds, 1),
        "train_parameters": trainer.model.num_parameters(),
        "train_parameters_without_embeddings": trainer.model.num_parameters(exclude_embeddings=True),
    }


def length_table(trainer: MaskedLMTrainer, data: PretrainingData, data_args: DataArguments) -> list[dict[str, float]]:
    # As many tokens in a batch at every length as --per_device_eval_batch_size rows of the training length have.
    tokens_per_batch = trainer.args.per_device_eval_batch_size * data_args.max_seq_length
    table = trainer.evaluate_lengths(data.evaluations, tokens_per_batch)
    for row in table:
        row["most_frequent_token_accuracy"] = data.baseline
    return table


def evaluation_metrics(table: Sequence[Mapping[str, float]], max_seq_length: int) -> dict[str, float]:
    """Metrics at the training length as `eval_<metric>`, those of every length as `eval_length_<length>_<metric>`."""
    metrics = {}
    for row in table:
        values = {name: value for name, value in row.items() if name != "length"}
        metrics |= {f"eval_length_{row['length']}_{name}": value for name, value in values.items()}
        if row["length"] == max_seq_length:
            metrics |= {f"eval_{name}": value for name, value in values.items()}
    return metrics


def report(
    trainer: MaskedLMTrainer,
    data: PretrainingData,
    model_args: ModelArguments,
    data_args: DataArguments,
    metrics: Mapping[str, float],
    table: Sequence[Mapping[str, float]],
) -> None:
    output_dir = Path(trainer.args.output_dir)
    with open(output_dir / "length_results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    write_model_card(output_dir, model_card_facts(trainer, data, model_args, data_args, metrics, table))
    print_table(table, data_args.max_seq_length)
    print(
        f"{metrics['train_parameters']:,} parameters, {metrics['train_parameters_without_embeddings']:,} without "
        f"embeddings; {metrics['train_tokens']:,} tokens seen, {metrics['train_tokens_per_second']:,.0f} a second."
    )
    print_example(output_dir, data, trainer)
    print(f"\nWrote the model and its results to {output_dir}, which now holds:")
    for path in sorted(output_dir.iterdir()):
        print(f"  {path.name}{'/' if path.is_dir() else ''}")


def print_table(table: Sequence[Mapping[str, float]], max_seq_length: int) -> None:
    print(f"\nMasked-token prediction by length (trained at {max_seq_length}):")
    print(f"{'length':>8}{'sequences':>11}{'tokens':>9}{'loss':>9}{'perplexity':>12}{'accuracy':>10}{'baseline':>10}")
    for row in table:
        print(
            f"{row['length']:>8}{row['sequences']:>11}{row['masked_tokens']:>9}{row['loss']:>9.4f}"
            f"{row['perplexity']:>12.2f}{row['accuracy']:>10.2%}{row['most_frequent_token_accuracy']:>10.2%}"
        )
    print(
        "baseline: accuracy of always answering the most frequent token of the training text. A tenth of the\n"
        "predicted tokens are left as they are in the input (BERT's 80/10/10), which a model can copy."
    )


def print_example(output_dir: Path, data: PretrainingData, trainer: MaskedLMTrainer) -> None:
    """Fills the example with the model as a user would load it from `output_dir`."""
    fill_mask = pipeline("fill-mask", model=str(output_dir), device=trainer.args.device)
    print(f"\n{data.example}" + ("" if data.answer is None else f"\n(the text has {data.answer!r})"))
    for guess in fill_mask(data.example):
        print(f"  {guess['score']:6.1%}  {guess['token_str']}")


def model_card_facts(
    trainer: MaskedLMTrainer,
    data: PretrainingData,
    model_args: ModelArguments,
    data_args: DataArguments,
    metrics: Mapping[str, float],
    table: Sequence[Mapping[str, float]],
) -> ModelCardFacts:
    args, settings = trainer.args, trainer.args.to_dict()  # in which enumerations are words
    return ModelCardFacts(
        model_name=Path(args.output_dir).resolve().name,
        task="fill-mask",
        config=trainer.model.config,
        repo_id=trainer.hub_model_id,
        example=data.example,
        mask_token=data.tokenizer.mask_token,
        base_model=model_args.model_name_or_path,
        datasets=[data_args.dataset_name] if data_args.dataset_name else (),
        data_description=None if data_args.dataset_name else describe_data(data_args),
        n_parameters=metrics["train_parameters"],
        n_tokens=metrics["train_tokens"],
        training={
            "Sequence length": data_args.max_seq_length,
            "Masked tokens": f"{data_args.mlm_probability:.0%}",
            "Steps": trainer.state.global_step,
            "Sequences per step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "Optimizer": f"{settings['optim']}, betas ({args.adam_beta1}, {args.adam_beta2})",
            "Peak learning rate": args.learning_rate,
            "Schedule": settings["lr_scheduler_type"],
            "Warm-up steps": args.get_warmup_steps(trainer.state.max_steps),
            "Weight decay": args.weight_decay,
            "Precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "Seed": args.seed,
            "Training time (seconds)": metrics["train_runtime"],
            "Tokens per second": metrics["train_tokens_per_second"],
        },
        length_results=[{name: row[name] for name in row if name != "runtime"} for row in table],
        software={name: version(name) for name in ("transformers", "torch", "accelerate", "datasets", "tokenizers")},
    )


def describe_data(data_args: DataArguments) -> str:
    if data_args.dataset_path is not None:
        return f"Pretrained on the local data set `{Path(data_args.dataset_path).name}`."
    if data_args.train_file is not None:
        # With the folder: corpora are often all called train.jsonl.
        names = ["/".join(Path(name).parts[-2:]) for name in data_args.train_file]
        return f"Pretrained on local text ({', '.join(f'`{name}`' for name in names)})."
    return (
        "Pretrained on the embedded corpus: the topics of the Python manual and the docstrings of the standard "
        "library and of the installed packages."
    )


if __name__ == "__main__":
    main()
