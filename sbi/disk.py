"""A disk that is full: the one place that knows how the system says so."""

import errno

from sbi.errors import Unavailable

RETRY_AFTER = 10
"""Seconds. The SDK gives up a transfer for which it is to wait much longer."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def translate(error: BaseException) -> Unavailable | None:
    """The caller's view of a full disk, a quota or a file size limit that is reached; None for any other error."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return Unavailable("the server has no room for files now", retry_after=RETRY_AFTER)
    return None
