"""`lookalike` and `python -m lookalike`: run a command; a user's mistake is one line and exit code 2."""

import errno
import sys

__all__ = ["main"]

_MISTAKES = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def main() -> None:
    """Run the command line."""
    from lookalike.training.errors import LookalikeError

    try:
        from lookalike.cli.app import app  # seconds: an interruption may meet it

        app()
    except LookalikeError as error:
        print(f"lookalike: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        mistake = isinstance(error, _MISTAKES) or error.errno in {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS}
        path = error.filename or "system"
        expected = "expected a path to read or write, found " if mistake else ""
        print(f"lookalike: {path}: {expected}{error.strerror or error}", file=sys.stderr)
        sys.exit(2 if mistake else 1)
    except KeyboardInterrupt:
        print("lookalike: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
