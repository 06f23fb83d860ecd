"""Errors that a user sees: one line that says what was expected, what was found, where, and what to do."""

import errno
import os

#: What the system answers where a disk, or somebody's share of it, is full.
_FULL = (errno.ENOSPC, errno.EDQUOT)


class BenchError(Exception):
    """A problem that its reader can mend; the message is shown as one line, without a traceback."""

    exit_code = 1


class UsageError(BenchError):
    """Something is wrong with what was asked for: found before anything runs."""

    exit_code = 2


class DataError(BenchError):
    """Images, masks or their layout are not what the adapter expects."""


class MethodError(BenchError):
    """A method broke its contract: the wrong shape, type or range came in or went out."""


def describe(error: Exception) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BenchError):
        return text
    if (where := full_disk(error)) is not None:
        return f"the disk is full ({where or 'while the result was written'}); free some space and run the command again"
    return f"{type(error).__name__}: {text}"


def full_disk(error: BaseException | None) -> str | None:
    """Return the file that a full disk had no room for, "" where that is not known; None where no full disk led to the error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return str(error.filename or "")
        if any(os.strerror(number) in str(error) for number in _FULL):  # of a library that passes on the words alone
            return ""
        error = error.__cause__ or error.__context__
    return None
