# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What every program does with errors: one line on stderr and an exit code."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable

from transformers.utils.logging import get_verbosity

from ..configuration_gau import GAUError
from .jobs import limit_threads
from .options import fail


def run_program(main: Callable[[], object]) -> None:
    """Calls `main` for a command line.

    An error that its message explains, of ours or of the operating system, ends the program with `error: <message>`
    and exit code 2, and its notes; with TRANSFORMERS_VERBOSITY=debug or --log_level debug its traceback comes before.
    Every other exception is a fault of the program and shows its traceback. Ctrl-C ends it with exit code 130, SIGTERM
    with 143; both leave nothing half-written.
    """
    # Processes of a launcher die at once, as before: it waits for them, and they may be in a call that never returns.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and "RANK" not in os.environ:
        process = os.getpid()

        def end(*_) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if os.getpid() != process else signal.SIG_IGN)
            if os.getpid() != process:  # a worker that was forked
                os.kill(os.getpid(), signal.SIGTERM)
            sys.exit(128 + signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
    limit_threads()
    try:
        main()
    except (GAUError, OSError, ImportError) as error:
        if get_verbosity() <= logging.DEBUG:
            traceback.print_exception(error)
        hint = "" if isinstance(error, GAUError) else " (TRANSFORMERS_VERBOSITY=debug shows where)"
        fail(_message(error) + hint, getattr(error, "__notes__", ()))
    except KeyboardInterrupt as error:
        print("\nInterrupted.", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _message(error: Exception) -> str:
    """The message of an error, without the traceback that torch puts into those of a DataLoader's workers."""
    said = str(error)
    if "Original Traceback" not in said:
        return said
    return said.rpartition(f"{type(error).__name__}: ")[2]
