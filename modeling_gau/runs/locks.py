# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""One owner at a time for a folder or a file of results, told by a lock that ends with its owner."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformers import TrainingArguments
from transformers.utils import logging

from ..configuration_gau import GAUError


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.get_logger(__name__)

# Uploads to the Hub leave out `_*`.
_NAME = "_lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# Workers of a killed process have its lock, too, until they find it gone (torch's look every 5 seconds).
_SECONDS_FOR_ORPHANS = 15.0


@contextmanager
def sole_owner(args: TrainingArguments) -> Iterator[None]:
    """Locks `args.output_dir` for a run. The first process holds the lock for all of them.

    Raises:
        ValueError: another run is at work there, or the folder cannot be written.
    """
    if args.process_index > 0:
        yield
        return
    with lock(Path(args.output_dir), removes=True):
        yield


@contextmanager
def lock(folder: Path, removes: bool = False) -> Iterator[int | None]:
    """Locks a folder, made if it is missing, for this program and for those that inherit the descriptor.

    The system frees the lock when its last owner ends, however that happens. A network file system may know the locks
    of one machine only (NFS mounted with `local_lock` or `nolock`): there, runs of two machines do not see each other.
    Where the file system has no locks at all (Lustre without `flock`), or the system (Windows), this warns and goes
    on.

    Args:
        removes: whether to remove the lock's file at the end, and the folder if this made it and it is empty. Not for
            owners whose processes inherit the lock: these may outlive the owner.

    Yields:
        The file descriptor; None if there are no locks.

    Raises:
        ValueError: another program holds the lock; or the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise GAUError(f"{folder} is a file. Name a directory, new or old.")
    with _locked(folder / _NAME, folder, removes) as descriptor:
        yield descriptor


@contextmanager
def lock_results(path: Path) -> Iterator[None]:
    """Locks a file that grows, as [`lock`] does a folder."""
    with _locked(path.with_name(f"_{path.name}{_NAME}"), path, removes=True):
        yield


@contextmanager
def _locked(path: Path, target: Path, removes: bool) -> Iterator[int | None]:
    made = [folder for folder in path.parents if not folder.exists()]
    descriptor = _acquire(path, target)
    try:
        yield descriptor
    finally:
        if removes:
            with suppress(OSError):
                path.unlink()  # while it is locked: see `_acquire`
                for folder in made:
                    folder.rmdir()  # an error if it is not empty
        if descriptor is not None:
            os.close(descriptor)


def _acquire(path: Path, target: Path) -> int | None:
    if fcntl is None:
        logger.warning(f"This system has no file locks: make sure that nothing else writes to {target}.")
        return None
    deadline = time.monotonic() + _SECONDS_FOR_ORPHANS
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise GAUError(f"{target} cannot be written: {error.strerror} ({path}).") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The owner before may have removed the file that this one opened: then the lock is of no use.
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}".encode(), 0)
                return descriptor
        except BlockingIOError as error:
            owner, is_gone = _owner(os.pread(descriptor, 300, 0).decode(errors="replace"))
            if not is_gone or time.monotonic() > deadline:
                os.close(descriptor)
                raise GAUError(
                    f"Another run, or one that it left behind, is at work in {target}: {owner}. Wait for it, end it, "
                    "or choose another place for the output."
                ) from error
            time.sleep(0.2)
        except FileNotFoundError:
            pass  # removed by its owner between the two looks
        except OSError as error:
            if error.errno in _NO_LOCKS:
                os.close(descriptor)
                logger.warning(f"The file system of {target} has no locks: make sure that nothing else writes there.")
                return None
            raise
        os.close(descriptor)


def _owner(content: str) -> tuple[str, bool]:
    """Names the owner of a lock, and whether only workers of it are left."""
    process, _, host = content.partition(" ")
    if not (process.isdecimal() and host):
        return "it has not said which process it is", False
    is_gone = False
    if host == socket.gethostname():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            is_gone = True
        except (PermissionError, OverflowError):
            pass
    return f"process {process} on {host}{' (which ended, but not its workers)' if is_gone else ''}", is_gone
