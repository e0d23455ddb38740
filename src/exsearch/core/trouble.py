"""Failures of the machine, as opposed to damaged files: permissions, open files, memory, disk space, missing drives.

No file has to be recreated after one of these, so none is called damaged: the message says what the machine lacks.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from exsearch.core.errors import ExSearchError, UsageError

_ADVICE = {
    (errno.EACCES, errno.EPERM): "give this user access to it",
    (errno.EROFS,): "mount it for writing, or choose another path",
    (errno.EMFILE,): "raise the limit on open files of this process (ulimit -n)",
    (errno.ENFILE,): "close programs, or raise this machine's limit on open files",
    (errno.ENOMEM,): "free memory, or use a machine with more",
    (errno.ENOSPC, errno.EDQUOT): "make room there",
    (errno.EFBIG,): "choose a drive that takes larger files, or raise this process's limit on them (ulimit -f)",
    (
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    ): "the drive or network behind it does not answer: see that it is connected and mounted",
}
_BY_NUMBER = {number: advice for numbers, advice in _ADVICE.items() for number in numbers}
_REST = "nothing is lost; run the same command again to resume"
_DEEPEST = 8
"""Maximum number of errors to examine in a chain of causes."""
_DESCRIPTORS = 4
_BAD_PATH = (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_TRIED = 1 << 20
"""Bytes that a disk must accept to count as working."""


def machine_trouble(error: BaseException, path: Path | None = None) -> ExSearchError | None:
    """Return the error to raise if the machine failed, with what to do; None for any other error.

    A library may have wrapped the operating system's error in its own, so causes are also examined. `path` is named if
    the error names no path.
    """
    for cause in islice(_causes(error), _DEEPEST):
        where = _where(cause) or ("" if path is None else f"{path}: ")
        if isinstance(cause, MemoryError):
            return ExSearchError(f"{where}not enough memory; {_BY_NUMBER[errno.ENOMEM]}; {_REST}")
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return ExSearchError(f"{where}{os.strerror(cause.errno)}; {_BY_NUMBER[cause.errno]}; {_REST}")
    return None


def as_user_error(error: BaseException) -> ExSearchError | None:
    """Return a one-line error for a command that ends with `error`; None for a bug, which needs its traceback."""
    if isinstance(error, ExSearchError):
        return error
    if trouble := machine_trouble(error):
        return trouble
    if isinstance(error, OSError) and error.errno in _BAD_PATH:
        return UsageError(f"{_where(error)}{error.strerror}; choose another path")
    if isinstance(error, UnicodeEncodeError) and "\udc80" <= error.object[error.start] <= "\udcff":
        # this is how Python represents bytes of the command line or of file names that are not UTF-8
        return UsageError(f"{error.object!r}: not UTF-8; rename the file, or use a link to it")
    return None


@contextmanager
def opening(path: Path, thing: str, remedy: str, *damage: type[Exception]) -> Iterator[None]:
    """Explain why the `thing` at `path` cannot be opened: the machine, a missing file, or damage.

    Treats OSError and the further types in `damage` as its failures. Raises ExSearchError for a failure of the machine,
    otherwise UsageError with the `remedy`, such as `build it again`. Errors that are either already are passed on.
    """
    try:
        yield
    except ExSearchError:
        raise
    except tuple[type[Exception], ...]((OSError, MemoryError, *damage)) as error:
        if trouble := machine_trouble(error, path):
            raise trouble from None
        if isinstance(error, FileNotFoundError):
            raise UsageError(f"{path}: incomplete {thing}, {error.filename} is missing; {remedy}") from None
        raise UsageError(f"{path}: damaged {thing}{damage_reason(error)}; {remedy}") from None


def damage_reason(error: BaseException) -> str:
    """Return, in brackets, why a file is damaged, if the words are ours or the operating system's."""
    if isinstance(error, OSError):
        reason = error.strerror
    else:
        ours = type(error) is ValueError or type(error).__module__.startswith("exsearch.")
        reason = str(error) if ours else None
    return f" ({reason})" if reason else ""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an OSError that names no file, such as that of a drive that fails while a file is read."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Report a full or failed disk by an OSError that names `path`, the file or folder being written.

    Libraries raise errors of their own then, some without the cause; after one of these, the disk is tested.
    """
    try:
        yield
    except ExSearchError:
        raise
    except OSError as error:
        if error.errno in _OF_DISKS:
            error.filename = error.filename or str(path)
        elif error.errno is None and (refused := _refused(path)):
            raise refused from error
        raise
    except Exception as error:
        if refused := _refused(path):
            raise refused from error
        raise


def _refused(path: Path) -> OSError | None:
    """Return the disk's error when writing some bytes next to `path`; None if that works."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(_TRIED))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror, str(path)) if error.errno in _OF_DISKS else None
    return None


def probe(path: Path) -> None:
    """Raise OSError if the file `path`, or a file in the folder `path`, cannot be opened for reading.

    For libraries whose own errors do not include the cause. Missing files are left to them. They may open a file again
    while it is open, so some spare descriptors are needed.
    """
    if path.is_dir():
        for child in path.iterdir():
            if child.is_file():
                probe(child)
    elif path.exists():
        with ExitStack() as stack:
            for _ in range(_DESCRIPTORS):
                stack.enter_context(path.open("rb"))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _where(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f"{name}: " if isinstance(name, str) and name else ""
