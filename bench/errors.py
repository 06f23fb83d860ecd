"""Errors that a user sees: one line that says what was expected, what was found, where, and what to do."""

import errno


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
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'while the result was written'}); free some space and run the command again"
    text = " ".join(str(error).split())
    return text if isinstance(error, BenchError) else f"{type(error).__name__}: {text}"
