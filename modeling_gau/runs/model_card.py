# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Writes the model card of a checkpoint from the facts of its run."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedConfig

from ..configuration_gau import GAUError
from .tables import code_span, literal_text, markdown


TEMPLATE_PATH = Path(__file__).with_name("model_card_template.md")

# Metrics by length that a leaderboard can use; a loss compares with nothing outside its own table.
INDEXED_LENGTH_METRICS = ("perplexity", "accuracy")


@dataclass(frozen=True, kw_only=True)
class ModelCardFacts:
    """Facts about a checkpoint. All but the first three are optional; the card leaves out what is unknown.

    Args:
        model_name: title of the card.
        task: pipeline tag: "fill-mask", "text-classification" or "feature-extraction".
        config: the configuration of the saved model. Model types other than "gau" get no description of the unit.
        repo_id: Hub id or path for the usage example. Default: the name of the directory of the card.
        example: text of the usage example, with one `mask_token` in it for fill-mask. A pair is a sentence pair.
        mask_token: the mask token in `example`.
        language, license: Hub identifiers such as "en" and "apache-2.0". There is no default licence. With "zh" the
            usage example is in Chinese.
        purpose: paragraph of Markdown on what the model is for and how good it is.
        origin: paragraph of Markdown on weights that this run did not train. [`inherited_facts`] gives it, and the
            citations, to the cards of models trained from this one.
        citations: BibTeX entries beside those of the unit and its normalizations.
        base_model: the model that was fine-tuned. A local one (`base_model_is_local`, or a directory of that name) is
            named in the text but not in the front matter.
        datasets: Hub ids of the training data.
        data_description: one sentence on training data that is not on the Hub.
        data_table: table in Markdown below it.
        n_parameters: number of parameters, tied ones counted once.
        n_tokens: tokens seen in training, repeated ones counted again, padding not counted.
        training: label -> value, for the table of training facts (hyper-parameters, hardware, time); None is left out.
        loss_curve, length_curve: names of pictures in the same directory: loss over the steps, loss over the length.
        length_results: one mapping per length, all with the same keys: "length" and e.g. "loss", "perplexity",
            "accuracy".
        task_metrics: metric name -> value on the evaluation split.
        split_of_metric: metric name -> its split, if that is not `eval_split`; the name then begins with the last
            part of the split: `mismatched_accuracy`.
        seed_metrics: metric name -> its values by seed, if there were several runs; this model's are among them.
        details: parts of Markdown below the table of metrics: comparisons, results by class.
        eval_dataset, eval_dataset_name, eval_config, eval_split: evaluation data: id, readable name, configuration
            (GLUE: the task) and split.
        software: package -> version.
        limits: sentences added to the limits that follow from the configuration.
    """

    model_name: str
    task: str
    config: PreTrainedConfig
    repo_id: str | None = None
    example: str | tuple[str, str] | None = None
    mask_token: str = "{mask}"
    language: str | list[str] | None = None
    license: str | None = None
    purpose: str | None = None
    origin: str | None = None
    citations: Sequence[str] = ()
    base_model: str | None = None
    base_model_is_local: bool = False
    datasets: Sequence[str] = ()
    data_description: str | None = None
    data_table: str | None = None
    n_parameters: int | None = None
    n_tokens: int | None = None
    training: Mapping[str, object] = field(default_factory=dict)
    loss_curve: str | None = None
    length_curve: str | None = None
    length_results: Sequence[Mapping[str, float]] = ()
    task_metrics: Mapping[str, float] = field(default_factory=dict)
    split_of_metric: Mapping[str, str] = field(default_factory=dict)
    seed_metrics: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    details: Sequence[str] = ()
    eval_dataset: str | None = None
    eval_dataset_name: str | None = None
    eval_config: str | None = None
    eval_split: str = "validation"
    software: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()

    def __post_init__(self):
        if self.task not in USAGE_EXAMPLES:
            raise GAUError(f"A model card is written for the tasks {', '.join(USAGE_EXAMPLES)}; got {self.task!r}.")
        if isinstance(self.datasets, str):
            raise GAUError(f"`datasets` is a list of Hub ids; got the string {self.datasets!r}.")
        columns = [tuple(row) for row in self.length_results]
        if any("length" not in row or row != columns[0] for row in columns):
            raise GAUError(
                "Every row of `length_results` needs the same keys, `length` among them; "
                f"got {' and '.join(str(row) for row in dict.fromkeys(columns))}."
            )

    @property
    def is_gau(self) -> bool:
        # The class may come from remote code.
        return self.config.model_type == "gau"


def write_model_card(output_dir: str | Path, facts: ModelCardFacts) -> Path:
    """Writes (or replaces) `README.md` in `output_dir`, which is created if missing, and returns its path."""
    output_dir = Path(output_dir)
    # The card travels with its folder, and not with the folder that the command ran in.
    source = facts.repo_id or output_dir.resolve().name
    card = ModelCard.from_template(
        card_data(facts),
        template_path=str(TEMPLATE_PATH),
        facts=facts,
        title=literal_text(facts.model_name),
        datasets=", ".join(map(hub_link, (f"datasets/{name}" for name in facts.datasets))),
        summary=summary(facts),
        normalization=normalization_text(facts.config) if facts.is_gau else None,
        usage=USAGE_EXAMPLES[facts.task](facts, source),
        architecture=architecture_table(facts) if facts.is_gau else None,
        training=facts_table({"Tokens seen": facts.n_tokens, **facts.training}),
        length_table=length_table(facts.length_results),
        metric_table=metric_table(facts.task_metrics, facts.seed_metrics),
        evaluated_on=evaluated_on(facts),
        limits=limits(facts),
        licence=licence_text(facts) if facts.is_gau else None,
        software=", ".join(f"{package} {version}" for package, version in facts.software.items()),
    )
    path = output_dir / "README.md"
    card.save(path)
    return path


_OF_THE_BASE = "The card of the base model says of it: "


def inherited_facts(folder: str | Path) -> dict[str, Any]:
    """`origin` and `citations` of a base model whose card in `folder` tells where its weights come from; or {}."""
    path = Path(folder) / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    origin = re.search(r"^<!-- origin -->\n(.*?)\n<!-- end of origin -->$", text, flags=re.MULTILINE | re.DOTALL)
    if origin is None:
        return {}
    in_every_card = TEMPLATE_PATH.read_text(encoding="utf-8")
    entries = re.findall(r"^@.*?^\}$", text, flags=re.MULTILINE | re.DOTALL)
    return {
        "origin": _OF_THE_BASE + origin[1].removeprefix(_OF_THE_BASE),
        "citations": [entry for entry in entries if entry not in in_every_card],
    }


# Front matter


def card_data(facts: ModelCardFacts) -> ModelCardData:
    results = evaluation_results(facts)
    return ModelCardData(
        # Only the model index has a field for the name.
        model_name=facts.model_name if results else None,
        library_name="transformers",
        pipeline_tag=facts.task,
        language=facts.language,
        license=facts.license,
        # The Hub refuses ids that it does not know, such as a local directory.
        base_model=None if has_local_base(facts) else facts.base_model,
        datasets=list(facts.datasets) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["gau", "gated-attention-unit"] if facts.is_gau else None,
        eval_results=results or None,
    )


def evaluation_results(facts: ModelCardFacts) -> list[EvalResult]:
    """One entry for each finite result: the Hub's model index has no NaN."""
    measured = [
        (metric, f"{metric_title(metric)} at length {row['length']}", row[metric], facts.eval_split)
        for row in facts.length_results
        for metric in INDEXED_LENGTH_METRICS
        if metric in row
    ]
    for name, value in facts.task_metrics.items():
        split = facts.split_of_metric.get(name, facts.eval_split)
        metric = name if split == facts.eval_split else name.removeprefix(f"{split.rpartition('_')[2]}_")
        measured.append((metric, metric_title(name), value, split))
    return [
        EvalResult(
            task_type=facts.task,
            dataset_type=facts.eval_dataset or "local",
            dataset_name=facts.eval_dataset_name or facts.eval_dataset or "held-out documents",
            dataset_config=facts.eval_config,
            dataset_split=split,
            metric_type=metric,
            metric_name=name,
            metric_value=round(float(value), 6),
        )
        for metric, name, value, split in measured
        if math.isfinite(value)
    ]


def metric_title(metric: str) -> str:
    return metric.replace("_", " ").capitalize()


# Text


def summary(facts: ModelCardFacts) -> str:
    config = facts.config
    size = "" if facts.n_parameters is None else f" with {count(facts.n_parameters)} parameters"
    if facts.is_gau:
        what = (
            f"An encoder of {config.num_hidden_layers} gated attention units{size}. Each unit does the work of "
            "self-attention and feed-forward network: a single attention head with queries and keys of width "
            f"{config.attention_key_size} mixes values of width {config.intermediate_size}, and a gate of the same "
            "width multiplies the result element by element"
        )
    else:
        what = f"A `{config.model_type}` model{size}"
    if facts.base_model is None:
        return f"{what}."
    return f"{what}. Fine-tuned from {base_model_link(facts)}."


def has_local_base(facts: ModelCardFacts) -> bool:
    return facts.base_model is not None and (facts.base_model_is_local or Path(facts.base_model).exists())


def base_model_link(facts: ModelCardFacts) -> str:
    if has_local_base(facts):
        return code_span(Path(facts.base_model).resolve().name)
    return hub_link(facts.base_model)


def hub_link(path: str) -> str:
    return f"[{literal_text(path.removeprefix('datasets/'))}](https://huggingface.co/{quote(path)})"


# Normalization -> how scores become weights, and the role of n in that; `{c}` is the configuration.
NORMALIZATION_TEXTS = {
    "softmax": ("Attention weights are the softmax of the scaled scores (`softmax`).", "unused"),
    "softmax_plus": (
        "Attention weights are the entropy-invariant softmax (`softmax_plus`): scores are multiplied by "
        "log n / log {c.reference_length} before the softmax, where n is the number of keys{clamp}. This keeps "
        "attention about as sharp when sequences get longer.",
        "scale",
    ),
    "scalable_softmax": (
        "Attention weights are the scalable softmax (`scalable_softmax`): each layer multiplies scores by log n, "
        "where n is the number of keys, and by a learned number.",
        "scale",
    ),
    "softmax_sink": (
        "Attention weights are a softmax with one more, learned term in its sum, so that a token may attend to "
        "nothing (`softmax_sink`). Each layer has its own term.",
        "unused",
    ),
    "sigmoid": (
        "Attention weights are sigmoid(score - log n), where n is the number of keys (`sigmoid`).",
        "divisor",
    ),
    "squared_relu": (
        "Attention weights are relu(score)² / n, where n is the number of keys (`squared_relu`).",
        "divisor",
    ),
    "squared_relu with a bias": (
        "Attention weights are relu(q · k / n + b)², where n is the number of keys and b a learned function of the "
        "distance (`squared_relu`).",
        "divisor",
    ),
    "laplace": (
        "Attention weights are a normal distribution function of q · k / n, where n is the number of keys "
        "(`laplace`), a smooth form of the squared ReLU.",
        "divisor",
    ),
    "normalized_squared_relu": (
        "Attention weights are relu(score)² divided by its sum over the keys; a query without a positive score "
        "attends to nothing (`normalized_squared_relu`).",
        "unused",
    ),
}
N_UNUSED = (
    "This formula uses the number of keys only through the sum itself, so the weights mean the same at every length. "
    "The option `fixed_n`, which replaces that number in other normalizations, does not apply here and raises an "
    "error."
)
# The role of n -> what to know if `fixed_n` is not set, and if it is.
N_DYNAMIC = "`fixed_n` is not set, so n is each sequence's own number of tokens, without padding. "
N_FIXED = "`fixed_n` is {c.fixed_n} and replaces n in every sequence, whatever its length. "
N_TEXTS = {
    "unused": (N_UNUSED, N_UNUSED),
    "scale": (
        N_DYNAMIC + "`from_pretrained(..., fixed_n={c.reference_length})` gives every sequence the scale of that "
        "length instead, with the same weights.",
        N_FIXED + "`from_pretrained(..., fixed_n=None)` counts each sequence's own tokens instead, with the same "
        "weights.",
    ),
    "divisor": (
        N_DYNAMIC + "This divisor can be far off at lengths rare in training, because the number of keys that matter "
        "grows more slowly than n. Before fine-tuning, compare `from_pretrained(..., fixed_n={c.reference_length})`.",
        N_FIXED + "Keep it for fine-tuning: the weights were trained with it, and dividing by each sequence's own n "
        "would rescale attention.",
    ),
}


def normalization_text(config: PreTrainedConfig) -> str:
    """One sentence on how scores become weights, two on `fixed_n`."""
    name, lower = config.attention_normalization, config.softmax_plus_min_length
    if name == "squared_relu" and config.relative_position_bias is not None:
        name = "squared_relu with a bias"
    if name not in NORMALIZATION_TEXTS:
        return f"Attention scores are normalized by `{name}`."
    text, role = NORMALIZATION_TEXTS[name]
    clamp = f" (counted as {lower} where there are fewer)" if lower > 1 else ""
    return f"{text} {N_TEXTS[role][config.fixed_n is not None]}".format(c=config, clamp=clamp)


# Usage

# Language -> the example of fill-mask and that of other tasks, for facts that have none.
DEFAULT_EXAMPLES: Mapping[str, tuple[str, str]] = {
    "en": ("The function returns the {mask} of the list.", "A film that is better than its trailer."),
    "zh": ("北京是中国的{mask}都，也是一座历史悠久的城市。", "北京是中国的首都，也是一座历史悠久的城市。"),
}
# Problem type -> what a classifier prints; one class unless it says otherwise.
CHINESE_ANSWERS = {
    "multi_label_classification": "输出每个类别的得分；各类别相互独立，可同时成立",
    "regression": "输出模型给出的分数",
}
_HAN, _KANA = re.compile("[\u3400-\u9fff]"), re.compile("[\u3041-\u30ff]")


def is_chinese(text: str) -> bool:
    """Whether over a quarter of the characters are Han, and hardly any are the kana of Japanese."""
    han, kana = len(_HAN.findall(text)), len(_KANA.findall(text))
    return 4 * han > len(text) and 20 * kana < han


def usage_language(facts: ModelCardFacts) -> str:
    """Returns "zh" where the first language is Chinese, or none is given and the example is Chinese; else "en"."""
    first, *_ = [facts.language] if isinstance(facts.language, str) else facts.language or [None]
    if first is None and facts.example:
        return "zh" if is_chinese("".join(facts.example)) else "en"
    return "zh" if first in ("zh", "zho") else "en"


def chinese_comment(facts: ModelCardFacts, text: str) -> str:
    """A line of code for Chinese cards alone."""
    return f"# {text}\n" if usage_language(facts) == "zh" else ""


def fill_mask_usage(facts: ModelCardFacts, source: str) -> str:
    example = facts.example or DEFAULT_EXAMPLES[usage_language(facts)][0].format(mask=facts.mask_token)
    if not isinstance(example, str) or example.count(facts.mask_token) != 1:
        raise GAUError(
            f"The example of a fill-mask card is one text with one `{facts.mask_token}` in it; got {example!r}."
        )
    before, after = example.split(facts.mask_token)
    comment = chinese_comment(facts, "掩码一个 token，输出得分最高的几个候选")
    return f"""\
from transformers import pipeline

{remote_code_comment(facts)}fill_mask = pipeline("fill-mask", model={literal(source)}{remote_code_argument(facts)})
{comment}text = {literal(before)} + fill_mask.tokenizer.mask_token + {literal(after)}
for guess in fill_mask(text):
    print(f"{{guess['score']:.3f}}  {{guess['token_str']}}")"""


def text_classification_usage(facts: ModelCardFacts, source: str) -> str:
    example = facts.example or DEFAULT_EXAMPLES[usage_language(facts)][1]
    if not isinstance(example, str):
        example = [dict(zip(("text", "text_pair"), example, strict=True))]
    # By default the pipeline returns the first label only.
    all_labels = ", top_k=None" if facts.config.problem_type == "multi_label_classification" else ""
    comment = chinese_comment(facts, CHINESE_ANSWERS.get(facts.config.problem_type, "输出得分最高的类别及其得分"))
    code, argument = remote_code_comment(facts), remote_code_argument(facts)
    return f"""\
from transformers import pipeline

{code}classify = pipeline("text-classification", model={literal(source)}{argument})
{comment}print(classify({literal(example)}{all_labels}))"""


def feature_extraction_usage(facts: ModelCardFacts, source: str) -> str:
    example = facts.example or DEFAULT_EXAMPLES[usage_language(facts)][1]
    comment = chinese_comment(facts, "每个 token 一个向量，形状为 (句子数, token 数, 隐层维度)")
    return f"""\
from transformers import AutoModel, AutoTokenizer

{remote_code_comment(facts)}tokenizer = AutoTokenizer.from_pretrained({literal(source)}{remote_code_argument(facts)})
model = AutoModel.from_pretrained({literal(source)}{remote_code_argument(facts)})
inputs = tokenizer({literal(example)}, return_tensors="pt")
{comment}print(model(**inputs).last_hidden_state.shape)"""


def literal(value: str | list) -> str:
    """Python literal in double quotes, non-ASCII text left readable."""
    return json.dumps(value, ensure_ascii=False)


def remote_code_comment(facts: ModelCardFacts) -> str:
    text = "模型目录自带模型代码，需用 trust_remote_code=True 允许执行，请先检查代码"
    return chinese_comment(facts, text) if facts.is_gau else ""


def remote_code_argument(facts: ModelCardFacts) -> str:
    return ", trust_remote_code=True" if facts.is_gau else ""


USAGE_EXAMPLES: Mapping[str, Callable[[ModelCardFacts, str], str]] = {
    "feature-extraction": feature_extraction_usage,
    "fill-mask": fill_mask_usage,
    "text-classification": text_classification_usage,
}


def evaluated_on(facts: ModelCardFacts) -> str:
    data = facts.eval_dataset_name or facts.eval_dataset
    if data is None:
        return f"the {facts.eval_split} split"
    config = f" ({literal_text(facts.eval_config)})" if facts.eval_config else ""
    splits = list(dict.fromkeys([facts.eval_split, *facts.split_of_metric.values()]))
    return f"the {' and '.join(splits)} split{'s' if len(splits) > 1 else ''} of {literal_text(data)}{config}"


def licence_text(facts: ModelCardFacts) -> str:
    """The licence of the code, which is known, and that of the weights, which only the user knows."""
    weights = (
        f"The weights have the licence `{facts.license}`." if facts.license else "The weights came without a licence."
    )
    return f"The model's code (the Python files) is licensed under Apache-2.0. {weights}"


def limits(facts: ModelCardFacts) -> list[str]:
    sentences = []
    if facts.is_gau:
        longest = facts.config.max_position_embeddings
        longer = [row["length"] for row in facts.length_results if row["length"] > longest]
        known = f"the table above goes up to {max(longer)}" if longer else "quality there was not measured"
        sentences.append(
            f"Made for sequences of up to {longest} tokens. It accepts longer ones, since positions are rotary; "
            f"{known}."
        )
        sentences.append("An encoder: it reads in both directions and does not generate text.")
    if facts.task == "fill-mask" and facts.n_tokens is not None:
        sentences.append(
            f"It saw {count(facts.n_tokens)} tokens in pretraining and knows no more than they taught it."
        )
    return sentences + list(facts.limits)


# Tables


def facts_table(rows: Mapping[str, object]) -> str | None:
    known = [(name, value) for name, value in rows.items() if value is not None]
    return markdown([("", "Value"), *known], left=2) if known else None


def architecture_table(facts: ModelCardFacts) -> str:
    config = facts.config
    rows = {
        "Layers": config.num_hidden_layers,
        "Hidden size": config.hidden_size,
        "Value width": config.intermediate_size,
        "Query and key width": config.attention_key_size,
        "Vocabulary": config.vocab_size,
        "Attention normalization": f"`{config.attention_normalization}`",
        "Offsets of query and key, before training": config.query_key_offset_init,
        "Relative position bias": config.relative_position_bias and f"`{config.relative_position_bias}`",
        "Parameters": facts.n_parameters,
    }
    return facts_table(rows)


def length_table(results: Sequence[Mapping[str, float]]) -> str | None:
    if not results:
        return None
    return markdown([[metric_title(key) for key in results[0]], *(list(row.values()) for row in results)], left=0)


def metric_table(metrics: Mapping[str, float], by_seed: Mapping[str, Mapping[int, float]]) -> str | None:
    if not metrics:
        return None
    if not by_seed:
        return markdown([("Metric", "Value"), *((metric_title(name), value) for name, value in metrics.items())])
    seeds = list(next(iter(by_seed.values())))
    rows = [("Metric", "This model", "Mean", "Standard deviation", *(f"Seed {seed}" for seed in seeds))]
    for name, value in metrics.items():
        values = list(by_seed[name].values())
        rows.append((metric_title(name), value, *mean_and_deviation(values), *values))
    return markdown(rows)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the sample's standard deviation (n - 1); NaN for fewer than two values or a NaN among them."""
    if len(values) < 2 or any(map(math.isnan, values)):
        return fmean(values), math.nan
    return fmean(values), stdev(values)


def count(number: int) -> str:
    """12345678 -> "12.3 million"."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:,}"
