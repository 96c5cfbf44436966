# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""TensorFlow's checkpoints, read without it."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import gau_alpha_reference as reference
import numpy as np
import pytest
from gau_alpha_reference import EMPTY_BLOCK, write_bundle
from gau_alpha_reference import crc32c as crc32c_by_bits

from modeling_gau import GAUError
from modeling_gau.gau_alpha.convert import convert
from modeling_gau.gau_alpha.tensorflow_reader import TensorBundle, checkpoint_prefixes, crc32c


REAL = Path(__file__).parent / "data/tensorflow/bert_model.ckpt"


def test_crc32c():
    # Of RFC 3720, appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0
    generator = np.random.default_rng(0)
    for size in (1, 3, 127, 128, 129, 255, 256, 257, 1000, 20_001):
        data = generator.integers(0, 256, size, dtype=np.uint8)
        assert crc32c(data) == crc32c_by_bits(data.tobytes()), size


def test_a_checkpoint_that_tensorflow_wrote():
    bundle = TensorBundle(REAL)
    assert len(bundle.entries) == 2 + 3 * 4
    assert bundle.entries["bert/embeddings/word_embeddings"].shape == (24, 16)
    for name, entry in bundle.entries.items():
        tensor = bundle.read(name)
        assert tensor.shape == entry.shape and tensor.dtype == np.float32
        assert 0.3 < tensor.std() < 0.7  # drawn with 0.5
    assert checkpoint_prefixes(REAL.parent) == [REAL]


@pytest.mark.parametrize("block_entries", [1, 2, 3, 100])
def test_round_trip(tmp_path, block_entries):
    generator = np.random.default_rng(1)
    variables = {f"scope/{'long' * 40}/{index}": generator.normal(size=(index + 1, 70)) for index in range(7)}
    variables = {name: value.astype(np.float32) for name, value in variables.items()}
    variables |= {"empty": np.zeros((0, 3), np.float32), "step": np.array(300, np.int64)}
    write_bundle(tmp_path / "model.ckpt", variables, block_entries)
    bundle = TensorBundle(tmp_path / "model.ckpt")
    assert bundle.entries.keys() == variables.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(bundle.read(name), value)
        assert bundle.read(name).dtype == value.dtype


def entry_with(prefix: Path, name: str, **changes) -> TensorBundle:
    bundle = TensorBundle(prefix)
    bundle.entries[name] = dataclasses.replace(bundle.entries[name], **changes)
    return bundle


@pytest.fixture
def written(tmp_path) -> Path:
    write_bundle(tmp_path / "model.ckpt", {"a": np.ones((3, 4), np.float32), "b": np.ones(5, np.float32)})
    return tmp_path / "model.ckpt"


def test_changed_bytes_are_found(written):
    path = Path(f"{written}.data-00000-of-00001")
    content = bytearray(path.read_bytes())
    content[50] ^= 1  # in b
    path.write_bytes(content)
    bundle = TensorBundle(written)
    np.testing.assert_array_equal(bundle.read("a"), np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"the checksum of b is wrong: copy the file again"):
        bundle.read("b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_sliced": True}, "b is stored in slices, which is not supported"),
        ({"dtype": 14}, "b has TensorFlow's data type 14, which is not supported"),
        ({"shape": (6,)}, r"b has 20 bytes for the shape \(6,\)"),
    ],
)
def test_entries_that_cannot_be_read(written, changes, message):
    with pytest.raises(ValueError, match=message):
        entry_with(written, "b", **changes).read("b")


def test_big_endian_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "HEADER", b"\x08\x01\x10\x01\x1a\x02\x08\x01")
    write_bundle(tmp_path / "model.ckpt", {"a": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="big-endian"):
        TensorBundle(tmp_path / "model.ckpt")


def test_a_data_file_that_is_cut_short_or_missing(written):
    path = Path(f"{written}.data-00000-of-00001")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is cut short: b ends at byte 68"):
        TensorBundle(written).read("b")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(path.name)):
        TensorBundle(written).read("b")


def test_every_changed_byte_of_the_index_is_found(written):
    path = Path(f"{written}.index")
    content = path.read_bytes()
    meta = content.index(EMPTY_BLOCK)
    for position in range(len(content) - 48):
        changed = bytearray(content)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        if meta <= position < meta + len(EMPTY_BLOCK):
            assert TensorBundle(written).entries.keys() == {"a", "b"}  # the block of meta data, which is not read
        else:
            with pytest.raises(ValueError, match=r"damaged|compressed"):
                TensorBundle(written)


def test_content_that_makes_no_sense_under_right_checksums(tmp_path, monkeypatch):
    generator = np.random.default_rng(2)
    block = reference._block

    def changed(entries):
        """One byte of one key or value is another."""
        entries = [[bytearray(key), bytearray(value)] for key, value in entries]
        parts = [part for entry in entries for part in entry if part]
        if parts:
            part = parts[generator.integers(len(parts))]
            part[generator.integers(len(part))] = generator.integers(256)
        return block([(bytes(key), bytes(value)) for key, value in entries])

    monkeypatch.setattr(reference, "_block", changed)
    variables = {"a": np.ones((2, 3), np.float32), "b": np.ones(5, np.float32)}
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        write_bundle(tmp_path / "model.ckpt", variables)
        try:
            bundle = TensorBundle(tmp_path / "model.ckpt")
            for name in bundle.entries:
                bundle.read(name)
            outcomes["read"] += 1
        except (GAUError, FileNotFoundError):  # of a data file
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100, outcomes


@pytest.mark.parametrize("content", [b"", b"x" * 20, b"x" * 100])
def test_a_file_that_is_no_index(tmp_path, content):
    (tmp_path / "model.ckpt.index").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"model.ckpt.index is not the index of a TensorFlow checkpoint, or is damaged"
    ):
        TensorBundle(tmp_path / "model.ckpt")


WRITE_WITH_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf
variables = np.load(sys.argv[1])
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name in variables:
        tf.compat.v1.get_variable(name, initializer=variables[name])
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver().save(session, sys.argv[2], write_meta_graph=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_what_tensorflow_writes_today(tmp_path):
    """A GAU-alpha as the TensorFlow that is there saves it."""
    variables = reference.tensorflow_variables(reference.random_weights(use_bias=True))
    np.savez(tmp_path / "variables.npz", **variables)
    directory = reference.write_tensorflow(tmp_path / "in", variables)
    (directory / "bert_model.ckpt.index").unlink()
    subprocess.run(
        [sys.executable, "-c", WRITE_WITH_TENSORFLOW, tmp_path / "variables.npz", directory / "bert_model.ckpt"],
        check=True,
    )
    bundle = TensorBundle(directory / "bert_model.ckpt")
    assert bundle.entries.keys() == variables.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(bundle.read(name), value)
    model = convert(directory, tmp_path / "out")
    kernel = variables["GAU_alpha/encoder/layer_2/gau/o_dense/kernel"]
    np.testing.assert_array_equal(model.model.layers[2].gau.o_dense.weight.detach().numpy().T, kernel)
