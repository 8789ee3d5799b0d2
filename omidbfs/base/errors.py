"""Errors for users. Any part may raise them, in any thread; the command line prints each as one line."""


class UserError(Exception):
    """A mistake that a user or an administrator can correct.

    ``place`` is a file, an option or a mount point. ``what`` says what is wrong there, and ``remedy`` how to
    correct it. Place and remedy may be empty. The printed form is one line: ``place: what; remedy``.
    """

    def __init__(self, what: str, remedy: str = "", place: object = "") -> None:
        super().__init__(what, remedy, place)
        self.what = what
        self.remedy = remedy
        self.place = str(place)

    def __str__(self) -> str:
        before = f"{self.place}: " if self.place else ""
        return f"{before}{self.what}{f'; {self.remedy}' if self.remedy else ''}"
