"""Failures of the machine, told apart from damage: permission, open files, memory, disk space, a drive that is away.

After one of these no file has to be made anew, so none is called damaged: the message says what the machine lacks.
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
    (errno.ENOMEM,): "free memory, or take a machine with more",
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
_REST = "nothing is lost, the same command continues"
_DEEPEST = 8
"""So many errors of a chain are looked at."""
_DESCRIPTORS = 4
_BAD_PATH = (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_TRIED = 1 << 20
"""Bytes that a disk must take to count as one that has not failed."""


def machine_trouble(error: BaseException, path: Path | None = None) -> ExSearchError | None:
    """Return what to raise if the machine failed, with what to do; None for every other error.

    A library may have put an error of its own in front of the operating system's, so its causes are looked at, too.
    `path` is named where the error names none.
    """
    for cause in islice(_causes(error), _DEEPEST):
        where = _where(cause) or ("" if path is None else f"{path}: ")
        if isinstance(cause, MemoryError):
            return ExSearchError(f"{where}not enough memory; {_BY_NUMBER[errno.ENOMEM]}; {_REST}")
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return ExSearchError(f"{where}{os.strerror(cause.errno)}; {_BY_NUMBER[cause.errno]}; {_REST}")
    return None


def as_told(error: BaseException) -> ExSearchError | None:
    """Return what a command says of an error that ends it, in one line; None for a bug, which needs its traceback."""
    if isinstance(error, ExSearchError):
        return error
    if trouble := machine_trouble(error):
        return trouble
    if isinstance(error, OSError) and error.errno in _BAD_PATH:
        return UsageError(f"{_where(error)}{error.strerror}; choose another path")
    if isinstance(error, UnicodeEncodeError) and "\udc80" <= error.object[error.start] <= "\udcff":
        # so Python shows bytes of the command line and of names of files that are not UTF-8
        return UsageError(f"{error.object!r}: not UTF-8; rename what has such a name, or name a link to it")
    return None


@contextmanager
def opening(path: Path, thing: str, remedy: str, *damage: type[Exception]) -> Iterator[None]:
    """Say what is wrong where the `thing` at `path` cannot be opened: the machine, a missing file, or damage.

    Takes OSError and the further types in `damage` for its failures. Raises ExSearchError for a failure of the
    machine, else UsageError with the `remedy`, such as `build it again`. What is either already passes.
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
    """Return, in brackets, what an error says of a damaged file, if the words are ours or the operating system's."""
    if isinstance(error, OSError):
        said = error.strerror
    else:
        ours = type(error) is ValueError or type(error).__module__.startswith("exsearch.")
        said = str(error) if ours else None
    return f" ({said})" if said else ""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in an OSError that names no file, such as that of a drive which fails while a file is read."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell that a disk takes nothing more by an OSError that names `path`, the file or folder to be written on it.

    Libraries raise errors of their own then, some of which do not say why: after one of these, the disk is asked.
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
    """Return what the disk says to some bytes beside `path`, None if it takes them."""
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

    For libraries whose own errors do not tell why. What is not there is left to them. They may open a file again while
    they have it open, so there must be room for some descriptors.
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
