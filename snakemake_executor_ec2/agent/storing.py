"""What keeps the controller from storing what a machine sends."""

from __future__ import annotations

import errno
import resource

_FOR_GOOD = frozenset({errno.EILSEQ, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG})


def is_for_good(error: OSError) -> bool:
    """Whether no other attempt could store it, because the file system has no such names or sizes. A file
    that is too large only for this process (`ulimit -f`) is another matter: the next run may store it."""
    if error.errno == errno.EFBIG:
        return resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    return error.errno in _FOR_GOOD
