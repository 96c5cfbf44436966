# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The pages of the documentation, and a script that runs what they tell the reader to run.

    python tests/pages.py                  # every page: minutes
    python tests/pages.py docs/serving.md  # one page

Each page runs from its top in a copy of the repository of its own. `pages.toml` says how long commands are shortened,
what stands in for the reader's files, and what does not run, and why.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str = README) -> list[str]:
    return [step for kind, step in steps(text) if kind == "bash"]


def steps(text: str) -> list[tuple[str, str]]:
    """The Python blocks of a page, and the commands of its other blocks one by one."""
    found = []
    for block in re.findall(r"^```((?:bash|python)\n.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        kind, _, code = block.partition("\n")
        lines = [line for line in code.replace("\\\n", "").splitlines() if line.strip() and not line.startswith("#")]
        found += [(kind, code)] if kind == "python" else [(kind, line) for line in lines]
    return found


def left_out(step: str) -> str | None:
    """Why a step does not run; None if it does."""
    reasons = (
        reason
        for reason, patterns in SETTINGS["left_out"].items()
        if any(re.search(rf"(?<!\w){re.escape(p)}", step) for p in patterns)
    )
    return next(reasons, None)


def shortened(command: str) -> str:
    command = command.partition("  #")[0].rstrip()
    return " ".join([command, *(more for name, more in SETTINGS["shorter"].items() if f"{name} " in command)])


def run_page(page: str) -> None:
    """Runs the steps of a page in this folder. Python blocks share their variables; the first failure ends it."""
    variables = {"__name__": "__main__"}
    for kind, step in steps(Path(page).read_text(encoding="utf-8")):
        reason, start = left_out(step), time.monotonic()
        print(f"\n{page}: {step if kind == 'python' else shortened(step)}", f"[left out: {reason}]" if reason else "")
        if reason is None and kind == "python":
            exec(compile(step, page, "exec"), variables)
        elif reason is None:
            subprocess.run(["bash", "-c", shortened(step)], check=True, timeout=900)
        if reason is None:
            print(f"{page}: {time.monotonic() - start:.0f} s", flush=True)


def copy_repository(folder: Path) -> None:
    """The files that git tracks or would track, as in a fresh clone."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(os.path.isfile, names.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def check_page(page: str) -> bool:
    with TemporaryDirectory() as folder:
        copy_repository(Path(folder))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        settings = {"PYTHONPATH": folder, "PATH": path, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
        there = {"cwd": folder, "env": os.environ | settings}
        for pages in ("*", page):
            subprocess.run(["bash", "-ec", SETTINGS["readers_files"].get(pages, "")], check=True, **there)
        code = "import sys; sys.path.append('tests'); from pages import run_page; run_page(sys.argv[1])"
        return subprocess.run([sys.executable, "-c", code, page], **there).returncode == 0


def main(chosen: list[str]) -> None:
    os.chdir(ROOT)
    pages = chosen or [str(page.relative_to(ROOT)) for page in PAGES if steps(page.read_text(encoding="utf-8"))]
    failed = [page for page in pages if not check_page(page)]
    print(f"\n{len(pages) - len(failed)} of {len(pages)} pages run." + "".join(f"\nFailed: {page}" for page in failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
