# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Digests by which text is recognised."""

import hashlib


def digest(text: str) -> str:
    """Returns 16 hexadecimal digits that depend on the text alone, in every process and on every machine."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
