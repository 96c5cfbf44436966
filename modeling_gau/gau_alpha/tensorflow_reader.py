# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Reads TensorFlow checkpoints without TensorFlow.

A checkpoint is a "tensor bundle": `PREFIX.index`, a table in LevelDB's format from names to descriptions, and the
bytes of the tensors in `PREFIX.data-00000-of-00001` and on. Sources of the formats: tensorflow/core/protobuf/
tensor_bundle.proto, tensorflow/core/lib/io/format.h and leveldb's table_format.md. Checksums of blocks and tensors are
verified.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configuration_gau import GAUError


_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5  # bytes
# DataType of tensorflow/core/framework/types.proto, without bfloat16 (14), which NumPy lacks.
_DTYPES: Mapping[int, str] = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2"}
_CRC32C = 0x82F63B78  # the polynomial, reflected


@dataclass(frozen=True)
class BundleEntry:
    """The place of a tensor.

    Args:
        dtype: NumPy's name of its type, or TensorFlow's number if NumPy has no such type.
        shape: sizes of its axes.
        shard, offset, size: number of the data file, first byte, number of bytes.
        checksum: masked CRC-32C of its bytes.
        is_sliced: whether it is stored in parts, as partitioned variables are.
    """

    dtype: str | int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool


class TensorBundle:
    """A TensorFlow checkpoint with its index in memory; tensors are read one by one.

    Args:
        prefix: path of the checkpoint without `.index`.

    Raises:
        ValueError: the file is not an index of a checkpoint, or is damaged.
    """

    def __init__(self, prefix: str | Path):
        self.prefix = Path(prefix)
        self.index_path = self.prefix.with_name(f"{self.prefix.name}.index")
        try:
            content = dict(self._table(self.index_path.read_bytes()))
            if b"" not in content:
                raise self._damaged("it has no header")
            header = dict(_fields(content.pop(b"")))
            self.n_shards = _number(header, 1, 1)
            self.entries = {name.decode(): _bundle_entry(value) for name, value in content.items()}
        except GAUError:
            raise
        except (IndexError, TypeError, ValueError, struct.error) as error:
            raise self._damaged(f"its content makes no sense ({error})") from error
        if header.get(2, 0) != 0:
            raise GAUError(f"{self.index_path}: big-endian tensors are not supported.")

    def read(self, name: str) -> np.ndarray:
        """The tensor of that name, as a read-only view of the file.

        Raises:
            ValueError: its type or form is not supported, or its checksum is wrong.
            FileNotFoundError: a data file is missing.
        """
        entry = self.entries[name]
        if entry.is_sliced or isinstance(entry.dtype, int):
            what = "is stored in slices" if entry.is_sliced else f"has TensorFlow's data type {entry.dtype}"
            raise GAUError(f"{self.index_path}: {name} {what}, which is not supported.")
        path = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.n_shards:05d}")
        if path.stat().st_size < entry.offset + entry.size:
            raise GAUError(f"{path} is cut short: {name} ends at byte {entry.offset + entry.size:,}.")
        if entry.size != np.dtype(entry.dtype).itemsize * math.prod(entry.shape):
            raise self._damaged(f"{name} has {entry.size} bytes for the shape {entry.shape}")
        if entry.size == 0:
            return np.empty(entry.shape, entry.dtype)
        data = np.memmap(path, np.uint8, "r", entry.offset, (entry.size,))
        if masked(crc32c(data)) != entry.checksum:
            raise GAUError(f"{path}: the checksum of {name} is wrong: copy the file again.")
        return data.view(entry.dtype).reshape(entry.shape)

    def _damaged(self, why: str) -> GAUError:
        return GAUError(f"{self.index_path} is not the index of a TensorFlow checkpoint, or is damaged: {why}.")

    def _table(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of a table, in order."""
        if len(table) < _FOOTER or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
            raise self._damaged("it does not end with the magic number of tables")
        # Place and size of the meta data block, which is empty, and of the index of blocks.
        _, _, *index = _varints(table[-_FOOTER:], 4)
        for _, handle in self._block(table, *index):
            yield from self._block(table, *_varints(handle, 2))

    def _block(self, table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of one block; each key is stored as a suffix to a prefix of the last one."""
        end = offset + size
        if end + _TRAILER > len(table) or size < 4:
            raise self._damaged("a block lies beyond its end")
        if masked(crc32c(table[offset : end + 1])) != struct.unpack_from("<I", table, end + 1)[0]:
            raise self._damaged("the checksum of a block is wrong")
        if table[end] != 0:
            raise GAUError(
                f"{self.index_path} is compressed, which is not supported (TensorFlow writes uncompressed files)."
            )
        (n_restarts,) = struct.unpack_from("<I", table, end - 4)
        block, position, key = table[offset : end - 4 * (n_restarts + 1)], 0, b""
        while position < len(block):
            (shared, added, length), position = _read_varints(block, position, 3)
            key = key[:shared] + block[position : position + added]
            position += added
            yield key, block[position : position + length]
            position += length


def checkpoint_prefixes(directory: Path) -> list[Path]:
    """The checkpoints in a directory, by TensorFlow's names for them."""
    return [path.with_suffix("") for path in sorted(directory.glob("*.index"))]


# Protocol buffers: a field is its number and its kind, then its content.


def _bundle_entry(message: bytes) -> BundleEntry:
    """A BundleEntryProto."""
    fields = list(_fields(message))
    values = dict(fields)
    dims = [_number(dict(_fields(value)), 1) for number, value in _fields(values.get(2, b"")) if number == 2]
    dtype = _number(values, 1)
    return BundleEntry(
        dtype=_DTYPES.get(dtype, dtype),
        shape=tuple(dims),
        shard=_number(values, 3),
        offset=_number(values, 4),
        size=_number(values, 5),
        checksum=_number(values, 6),
        is_sliced=7 in values,
    )


def _number(fields: Mapping[int, int | bytes], key: int, default: int = 0) -> int:
    value = fields.get(key, default)
    if not isinstance(value, int) or value >= 2**63:
        raise ValueError(f"field {key} is no number")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(message):
        (tag,), position = _read_varints(message, position, 1)
        kind = tag & 7
        if kind == 0:
            (value,), position = _read_varints(message, position, 1)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                (size,), position = _read_varints(message, position, 1)
            value = message[position : position + size]
            position += size
            value = value if kind == 2 else int.from_bytes(value, "little")
        yield tag >> 3, value


def _varints(data: bytes, count: int) -> list[int]:
    return _read_varints(data, 0, count)[0]


def _read_varints(data: bytes, position: int, count: int) -> tuple[list[int], int]:
    """Numbers of seven bits a byte, the lowest first, and where they end."""
    numbers = []
    for _ in range(count):
        number = shift = 0
        while True:
            byte = data[position]
            position += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        numbers.append(number)
    return numbers, position


# CRC-32C (RFC 3720). Its register is a polynomial over GF(2), and advancing it over zeros is linear: stretches of the
# data are processed side by side and then combined.


def masked(checksum: int) -> int:
    """The stored form of a checksum: checksums of data that hold checksums are weak (leveldb/util/crc32c.h)."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes | np.ndarray) -> int:
    """The CRC-32C of bytes or a uint8 array, at about 70 million bytes a second."""
    data = np.frombuffer(data, np.uint8)
    stretches = 1 << max(0, min(16, len(data).bit_length() - 8))
    length = -(-len(data) // stretches)
    # Leading zeros do not change a register that starts at zero.
    padded = np.zeros(stretches * length, np.uint8)
    padded[len(padded) - len(data) :] = data
    steps = np.ascontiguousarray(padded.reshape(stretches, length).T)
    registers, table = np.zeros(stretches, np.uint32), _table_of_bytes()
    for step in steps:
        registers = table[(registers ^ step) & 255] ^ (registers >> 8)
    advance = _power(_zero_byte(), length)
    while len(registers) > 1:
        registers = _apply(advance, registers[0::2]) ^ registers[1::2]
        advance = _apply(advance, advance)
    # The register starts with ones, and is inverted at the end.
    start = _apply(_power(_zero_byte(), len(data)), np.array([0xFFFFFFFF], np.uint32))
    return int(registers[0] ^ start[0] ^ 0xFFFFFFFF)


def _table_of_bytes() -> np.ndarray:
    """The register after eight zero bits, for each value of its lowest byte; uint32 `(256,)`."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_CRC32C), table >> 1)
    return table


def _zero_byte() -> np.ndarray:
    """The matrix that advances a register over a zero byte: the images of its bits, uint32 `(32,)`."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    return _table_of_bytes()[bits & 255] ^ (bits >> 8)


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    result = np.zeros_like(registers)
    for bit, image in enumerate(matrix):
        result ^= np.where(registers >> np.uint32(bit) & 1, image, np.uint32(0))
    return result


def _power(matrix: np.ndarray, exponent: int) -> np.ndarray:
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    while exponent:
        if exponent & 1:
            result = _apply(matrix, result)
        matrix = _apply(matrix, matrix)
        exponent >>= 1
    return result
