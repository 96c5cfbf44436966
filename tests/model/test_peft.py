# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""LoRA on the two projections of the unit trains, merges, and round-trips; tuned prompts train and round-trip."""

import pytest
import torch
from peft import (
    AutoPeftModelForSequenceClassification,
    LoraConfig,
    PeftModel,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)

from modeling_gau import GAUForSequenceClassification
from modeling_gau.modeling_gau import AUTO_CLASSES


TARGETS = ["i_dense", "o_dense"]


@pytest.fixture(scope="module")
def make_model(make_model):
    return lambda: make_model(GAUForSequenceClassification, num_hidden_layers=2)


def make_batch() -> dict[str, torch.Tensor]:
    mask = torch.ones(6, 9, dtype=torch.long)
    mask[0, 5:], mask[-1, :3] = 0, 0
    ids = torch.randint(1, 40, (6, 9), generator=torch.Generator().manual_seed(0)) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 0, 1, 1, 0])}


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**make_batch()).logits


@pytest.fixture(scope="module")
def trained(make_model) -> tuple[PeftModel, list[float], dict[str, torch.Tensor]]:
    """A model with trained adapters, its losses, and the encoder's weights before training."""
    base = make_model()
    before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, lora_dropout=0.0, target_modules=TARGETS)
    model = get_peft_model(base, lora).train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.02)
    losses = []
    for _ in range(15):
        loss = model(**make_batch()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model, losses, before


def test_only_adapters_and_the_classifier_train(trained):
    model, losses, before = trained
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trainable)
    adapted = {name.split(".lora_")[0].rpartition("model.layers.")[2] for name in trainable if "lora_" in name}
    assert adapted == {f"{layer}.gau.{target}" for layer in range(2) for target in TARGETS}
    assert losses[-1] < losses[0] / 2

    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p for name, p in model.named_parameters()
    }
    frozen = {name for name in before if not name.startswith("classifier")}
    assert frozen <= set(after)
    for name in frozen:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_saved_adapters_load_and_merge(make_model, trained, tmp_path):
    model, _, _ = trained
    expected = logits_of(model)
    with model.disable_adapter():
        assert (logits_of(model) - expected).abs().max() > 0.01
    model.save_pretrained(tmp_path / "adapters")
    loaded = PeftModel.from_pretrained(make_model(), tmp_path / "adapters")
    torch.testing.assert_close(logits_of(loaded), expected)

    merged = loaded.merge_and_unload()
    assert type(merged) is GAUForSequenceClassification
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    reloaded = GAUForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert reloaded.config.auto_map.keys() == {"AutoConfig", *AUTO_CLASSES}
    torch.testing.assert_close(logits_of(reloaded), expected, rtol=1e-4, atol=1e-5)


def test_both_projections_are_all_linear_layers(make_model):
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, target_modules="all-linear")
    model = get_peft_model(make_model(), lora)
    adapted = {name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert adapted == set(TARGETS)
    assert "classifier" in model.modules_to_save
    with pytest.raises(ValueError, match="target_modules"):  # PEFT has no default for an architecture it does not know
        get_peft_model(make_model(), LoraConfig(task_type=TaskType.SEQ_CLS))


def test_adapters_load_with_the_names_of_their_classes(make_model, tmp_path):
    """Adapters hold the classifier's weights, but neither its size nor its labels: the caller gives these."""
    names = {"id2label": {0: "bad", 1: "good", 2: "odd"}, "label2id": {"bad": 0, "good": 1, "odd": 2}}
    make_model().save_pretrained(tmp_path / "base")
    base = GAUForSequenceClassification.from_pretrained(tmp_path / "base", **names, ignore_mismatched_sizes=True)
    model = get_peft_model(
        base, LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=TARGETS, init_lora_weights=False)
    )
    expected = logits_of(model)
    assert expected.shape == (6, 3)
    model.save_pretrained(tmp_path / "adapters")
    # The adapters' classifier replaces the base model's, which has two classes.
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "adapters", **names, ignore_mismatched_sizes=True
    )
    torch.testing.assert_close(logits_of(loaded), expected)
    assert loaded.merge_and_unload().config.id2label == names["id2label"]


def test_gradient_checkpointing_with_frozen_embeddings(trained):
    """Frozen embeddings give hidden states without gradients, yet adapters inside checkpointed layers need theirs."""
    model, _, _ = trained

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model.train()(**make_batch()).loss.backward()
        return [p.grad.clone() for name, p in model.named_parameters() if "lora_" in name]

    expected = gradients()
    model.gradient_checkpointing_enable()
    try:
        torch.testing.assert_close(gradients(), expected)
    finally:
        model.gradient_checkpointing_disable()
    assert all(gradient.abs().max() > 0 for gradient in expected)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PromptEncoderConfig])
def test_tuned_prompts(make_model, tmp_path, kind):
    make_model().save_pretrained(tmp_path / "base")
    base = GAUForSequenceClassification.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, kind(task_type=TaskType.SEQ_CLS, num_virtual_tokens=4))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.02)
    losses = []
    for _ in range(10):
        loss = model.train()(**make_batch()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path / "prompt")
    loaded = PeftModel.from_pretrained(
        GAUForSequenceClassification.from_pretrained(tmp_path / "base"), tmp_path / "prompt"
    )
    torch.testing.assert_close(logits_of(loaded), logits_of(model))
