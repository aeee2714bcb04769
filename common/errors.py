"""The one exception for everything that a user can cause and can mend."""


class UserError(Exception):
    """A mistake that the user can mend: one sentence that says what, where, and what to do.

    The entry scripts print it without a traceback and leave with exit code 2; everything else
    that is raised is a defect of ours and keeps its traceback.

    Attributes:
        own: It happened to this process alone, and so is told by it, whatever its rank.
    """

    def __init__(self, sentence: str, own: bool = False) -> None:
        super().__init__(sentence)
        self.own = own


def excerpt(text: str, limit: int = 60) -> str:
    """A file's own words as a sentence may quote them: short, on one line, nothing invisible."""
    shown = text if len(text) <= limit else f"{text[:limit]}…"
    return shown if shown.isprintable() else repr(shown)[1:-1]
