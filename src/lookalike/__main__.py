"""`lookalike` and `python -m lookalike`: run a command.

A user's mistake prints one line and exits with code 2. SIGTERM ends a command as Ctrl-C does, with code 130.
"""

import contextlib
import errno
import os
import signal
import sys
from types import FrameType

__all__ = ["main"]

_USER_ERRORS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def main() -> None:
    """Run the command line."""
    from lookalike.training.errors import LookalikeError

    signal.signal(signal.SIGTERM, _terminate)
    try:
        from lookalike.cli.app import app  # inside `try`: Ctrl-C may interrupt this slow import

        app()
    except LookalikeError as error:
        print(f"lookalike: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        user_error = isinstance(error, _USER_ERRORS) or error.errno in {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS}
        path = error.filename or "system"
        expected = "expected a path to read or write, found " if user_error else ""
        print(f"lookalike: {path}: {expected}{error.strerror or error}", file=sys.stderr)
        sys.exit(2 if user_error else 1)
    except KeyboardInterrupt:
        print("lookalike: interrupted", file=sys.stderr)
        sys.exit(130)


def _terminate(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"lookalike: SIGTERM: the work ends\n")  # not print: the signal may have interrupted a print
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
