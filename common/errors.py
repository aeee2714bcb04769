"""The exception for every mistake that a user can make and fix."""


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
