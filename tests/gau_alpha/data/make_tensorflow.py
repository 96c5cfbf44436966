# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Makes `tensorflow/`: a tiny GAU-alpha of bert4keras, saved by TensorFlow, and what bert4keras computes with it.

    pip install "tensorflow-cpu==2.12.1" && pip install --no-deps "bert4keras==0.11.3"
    python tests/gau_alpha/data/make_tensorflow.py

bert4keras 0.11.3 is the version that GAU-alpha was released for.
"""

import json
import os
from pathlib import Path


os.environ["TF_KERAS"] = "1"

import numpy as np
import tensorflow as tf
from bert4keras.layers import Add, Dropout, GatedAttentionUnit, LayerNormalization
from bert4keras.models import RoFormerV2, build_transformer_model


DIRECTORY = Path(__file__).with_name("tensorflow")
CONFIG = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "attention_key_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,
    "hidden_act": "swish",
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"北京是中国的首都也一座历史悠久城市，。"]
# With one real token among padding, bert4keras 0.11.3 multiplies the mask by log 1 = 0, and padding is attended.
LENGTHS = (20, 7, 2)


class GAUAlpha(RoFormerV2):
    """GAU-alpha as its article describes it, from the layers of bert4keras."""

    def apply_main_layers(self, inputs, index):
        name = f"unit-{index}"
        attended = self.apply(
            inputs=[inputs, self.compute_position_bias(inputs)],
            layer=GatedAttentionUnit,
            arguments={"a_bias": None, "p_bias": "rotary"},
            units=self.intermediate_size,
            key_size=self.attention_key_size,
            activation=self.hidden_act,
            use_bias=False,
            normalization="softmax_plus",
            attention_dropout=self.attention_dropout_rate,
            kernel_initializer=self.initializer,
            name=name,
        )
        attended = self.apply(inputs=attended, layer=Dropout, rate=self.dropout_rate, name=f"{name}-dropout")
        summed = self.apply(inputs=[inputs, attended], layer=Add, name=f"{name}-add")
        return self.apply(
            inputs=summed, layer=LayerNormalization, zero_mean=False, scale=False, offset=False, name=f"{name}-norm"
        )


def save(gau: GAUAlpha, prefix: Path) -> None:
    """What bert4keras' `save_weights_as_checkpoint` does, which needs TensorFlow 1, with the names of the release."""
    tables = {"word_embeddings": "Embedding-Token", "token_type_embeddings": "Embedding-Segment"}
    variables = {f"bert/embeddings/{name}": gau.layers[layer].embeddings for name, layer in tables.items()}
    for index in range(gau.num_hidden_layers):
        unit, scope = gau.layers[f"unit-{index}"], f"GAU_alpha/encoder/layer_{index}/gau"
        for part in ("i_dense", "o_dense"):
            variables[f"{scope}/{part}/kernel"] = getattr(unit, part).kernel
        for part in ("q_scaleoffset", "k_scaleoffset"):
            variables[f"{scope}/{part}/gamma"] = getattr(unit, part).gamma
    variables = {name: variable.numpy() for name, variable in variables.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in variables.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(prefix), write_meta_graph=False, latest_filename="checkpoint")


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / "bert_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (DIRECTORY / "vocab.txt").write_text("\n".join(VOCABULARY[: CONFIG["vocab_size"]]) + "\n", encoding="utf-8")
    gau = build_transformer_model(
        str(DIRECTORY / "bert_config.json"), model=GAUAlpha, with_mlm="linear", return_keras_model=False
    )
    generator = np.random.default_rng(0)
    # Larger than at the start of training, so that attention is not nearly uniform.
    gau.model.set_weights([generator.normal(0, 0.5, weight.shape) for weight in gau.model.get_weights()])
    save(gau, DIRECTORY / "bert_model.ckpt")
    tokens = np.zeros((len(LENGTHS), max(LENGTHS)), np.int64)
    for row, length in enumerate(LENGTHS):
        tokens[row, :length] = generator.integers(1, CONFIG["vocab_size"], length)
    segments = generator.integers(0, 2, tokens.shape)
    hidden = [layer.output for layer in gau.model.layers if layer.name.endswith(("Embedding-Norm", "-norm"))]
    outputs = tf.keras.models.Model(gau.model.inputs, [*hidden, gau.model.output]).predict([tokens, segments])
    np.savez_compressed(
        DIRECTORY / "expected.npz",
        input_ids=tokens,
        token_type_ids=segments,
        hidden_states=np.stack(outputs[:-1]),
        logits=outputs[-1],
    )
    (DIRECTORY / "checkpoint").unlink()
    print(f"{DIRECTORY}: {', '.join(sorted(path.name for path in DIRECTORY.iterdir()))}")


if __name__ == "__main__":
    main()
