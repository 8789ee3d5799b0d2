"""Errors for people: raised anywhere, in any thread, and printed by the command line as one line."""


class UserError(Exception):
    """Something that its user or administrator can mend.

    ``place`` is the file, option or mount point that is concerned, ``what`` says what is wrong there, ``remedy``
    what to do about it; place and remedy may be empty. Printed, it is one line: ``place: what; remedy``.
    """

    def __init__(self, what: str, remedy: str = "", place: object = "") -> None:
        super().__init__(what, remedy, place)
        self.what = what
        self.remedy = remedy
        self.place = str(place)

    def __str__(self) -> str:
        before = f"{self.place}: " if self.place else ""
        return f"{before}{self.what}{f'; {self.remedy}' if self.remedy else ''}"
