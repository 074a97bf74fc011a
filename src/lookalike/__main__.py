"""`lookalike` and `python -m lookalike`: run a command. A user's mistake prints one line and exits with code 2."""

import errno
import sys

__all__ = ["main"]

_USER_ERRORS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def main() -> None:
    """Run the command line."""
    from lookalike.training.errors import LookalikeError

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


if __name__ == "__main__":
    main()
