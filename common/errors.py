"""The exception for every mistake that a user can make and fix, and the wording of messages."""


class UserError(Exception):
    """An error that the user can fix; its message says what is wrong, where, and what to do.

    The entry scripts print it without a traceback and exit with code 2; any other exception is a
    defect of this program and keeps its traceback.

    Attributes:
        own: Whether only this process found the error, and so reports it whatever its rank is.
    """

    def __init__(self, sentence: str, own: bool = False) -> None:
        super().__init__(sentence)
        self.own = own


def excerpt(text: str, limit: int = 60) -> str:
    """Shorten a user's text to one line of printable characters, to be quoted in a message."""
    shown = text if len(text) <= limit else f"{text[:limit]}…"
    return shown if shown.isprintable() else repr(shown)[1:-1]


def count_of(count: int, one: str, several: str = "") -> str:
    """Write a count with a noun, `1 pair` or `2,000 pairs`, or with other words that depend on it.

    Args:
        count: The count.
        one: The words after 1, such as `line has`.
        several: The words after any other count; by default, `one` with an added `s`.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
