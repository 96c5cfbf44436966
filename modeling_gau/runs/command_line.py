# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What every program does with errors: one line on stderr and an exit code."""

import argparse
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from transformers.utils.logging import get_verbosity

from ..configuration_gau import GAUError


class ArgumentParser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, without pages of usage."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **{"prog": program_name()} | kwargs)

    def error(self, message: str) -> NoReturn:
        fail(message)


def program_name() -> str | None:
    """How this program is called where that is by `python -m`; None for a script, whose name argparse knows."""
    module = sys.modules["__main__"].__spec__
    return module and f"python -m {module.name.removesuffix('.__main__')}"


def run_program(main: Callable[[], object]) -> None:
    """Calls `main` for a command line.

    An error that its message explains, of ours or of the operating system, ends the program with `error: <message>`
    and exit code 2; with TRANSFORMERS_VERBOSITY=debug or --log_level debug its traceback comes before. Every other
    exception is a fault of the program and shows its traceback. Ctrl-C ends it with exit code 130, SIGTERM with 143;
    both leave nothing half-written.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except (GAUError, OSError, ImportError) as error:
        if get_verbosity() <= logging.DEBUG:
            traceback.print_exception(error)
        fail(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def fail(message: str) -> NoReturn:
    """Ends the program with an error of one line."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
