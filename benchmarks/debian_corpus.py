"""A corpus of long documents that every Debian 12 has: the documentation of the Linux kernel and of Python.

    apt-get download linux-doc-6.1 python3.11-doc
    for package in *.deb; do dpkg -x $package unpacked; done
    python benchmarks/debian_corpus.py --root unpacked --output corpus/

Writes `train-*.jsonl` and `validation.jsonl`, one document a line with the columns `id` and `text`. A document is a
source file (reStructuredText or plain text); those under 200 characters and repeated ones are left out. Validation are
2 percent, chosen by a hash of the file's name. The texts keep their licences: GPL-2.0 and PSF.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm


PATTERNS = (
    "usr/share/doc/linux-doc-*/Documentation/**/*.rst.gz",
    "usr/share/doc/linux-doc-*/Documentation/**/*.txt.gz",
    "usr/share/doc/linux-doc-*/Documentation/**/*.rst",
    "usr/share/doc/linux-doc-*/Documentation/**/*.txt",
    "usr/share/doc/python*/html/_sources/**/*.rst.txt",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--shards", type=int, default=8, help="files of training text")
    args = parser.parse_args()
    splits = {name: [] for name in (*range(args.shards), "validation")}
    for document in documents(args.root):
        number = int(hashlib.blake2b(document["id"].encode(), digest_size=8).hexdigest(), 16)
        name = "validation" if number % 50 == 0 else number // 50 % args.shards
        splits[name].append(document)
    if not any(splits.values()):
        raise SystemExit(f"There is no documentation under {args.root}: unpack the packages there with dpkg -x.")
    args.output.mkdir(parents=True, exist_ok=True)
    for name, chosen in splits.items():
        path = args.output / (f"{name}.jsonl" if name == "validation" else f"train-{name:02}.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in chosen)
        print(f"{path}: {len(chosen):,} documents, {sum(len(document['text']) for document in chosen):,} characters")


def documents(root: Path) -> Iterator[dict[str, str]]:
    paths = sorted({path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()})
    seen = set()
    for path in tqdm(paths, desc="Reading", unit=" files"):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8", errors="replace").strip()
        digest = hashlib.blake2b(text.encode()).digest()
        if len(text) >= 200 and digest not in seen:
            seen.add(digest)
            yield {"id": str(path.relative_to(root / "usr/share/doc")), "text": text}


if __name__ == "__main__":
    main()
