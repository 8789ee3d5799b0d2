"""Errors for people."""


class UserError(Exception):
    """Something that its user or administrator can mend; the message is one line: what, where, what to do."""
