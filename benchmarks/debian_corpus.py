"""A corpus of long documents that every Debian 12 has: the documentation of the Linux kernel and of Python.

    apt-get download linux-doc-6.1 python3.11-doc
    for package in *.deb; do dpkg -x $package unpacked; done
    python benchmarks/debian_corpus.py --root unpacked --output corpus/

Writes `train-*.jsonl` and `validation.jsonl`, one document a line with the columns `id` and `text`. A document is a
source file (reStructuredText or plain text); those under 200 characters and repeated ones are left out. Validation are
2 percent, chosen by a hash of the file's name. The texts keep their licences: GPL-2.0 and PSF.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

from english_corpus import corpus_parser, write_corpus


SHORTEST = 200  # characters
PATTERNS = (
    "usr/share/doc/linux-doc-*/Documentation/**/*.rst.gz",
    "usr/share/doc/linux-doc-*/Documentation/**/*.txt.gz",
    "usr/share/doc/linux-doc-*/Documentation/**/*.rst",
    "usr/share/doc/linux-doc-*/Documentation/**/*.txt",
    "usr/share/doc/python*/html/_sources/**/*.rst.txt",
)


def main() -> None:
    parser = corpus_parser(__doc__)
    parser.add_argument("--shards", type=int, default=8, help="files of training text")
    args = parser.parse_args()
    write_corpus(documents(args.root), args.output, SHORTEST, args.shards)


def documents(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the id and the text of every document."""
    for path in sorted({path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        yield str(path.relative_to(root / "usr/share/doc")), content.decode("utf-8", errors="replace").strip()


if __name__ == "__main__":
    main()
