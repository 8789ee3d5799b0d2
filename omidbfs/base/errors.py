"""Errors for users. Any part may raise them, in any thread; the command line prints each as one line."""


class UserError(Exception):
    """A mistake that a user or an administrator can correct.

    ``place`` is the file, option or mount point. It is ``None`` if there is none, and may be an empty text that a
    user has given. ``what`` says what is wrong there. ``remedy`` says what to do, and is empty if that is unknown.
    Printed, the error is one line: ``place: what; remedy``.
    """

    def __init__(self, what: str, remedy: str = "", place: object = None) -> None:
        super().__init__(what, remedy, place)
        self.what = what
        self.remedy = remedy
        self.place = None if place is None else str(place)

    def __str__(self) -> str:
        before = "" if self.place is None else f"{self.place}: "
        return f"{before}{self.what}{f'; {self.remedy}' if self.remedy else ''}"


class NotFoundError(UserError, KeyError):
    """A name that does not exist: a facet, a value, a rendition, a named cohort."""


class ConditionError(UserError, ValueError):
    """A condition of a cohort that is no text, number or range, or makes no sense."""
