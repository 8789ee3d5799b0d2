"""A command whose help begins with an example, and has its options in groups."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import click

_SHARED = {
    "Windows and links": (
        *("clients_file", "link_all", "num_months_ci_prior", "num_months_cancer_prior"),
        *("num_months_normal_follow_up", "num_months_benign_follow_up"),
    ),
    "Source and index": (*("images", "data", "follow_symlinks", "index", "verify_first", "workers", "executor"),),
}
"""Title -> names of the options in that group, which many commands share. All others are the command's own."""


class _Context(click.Context):
    """Takes a default of an option as if it had been typed: a number in a configuration is checked as a text."""

    def lookup_default(self, name: str, call: bool = True) -> Any:
        """Return the default of an option: a list of texts if it may be given several times, else a text."""
        value: object = super().lookup_default(name)
        if value is None:
            return None
        options = (one for one in self.command.params if isinstance(one, click.Option))
        several = any(one.multiple for one in options if one.name == name)
        return [str(each) for each in value] if several and isinstance(value, list) else str(value)


class Command(click.Command):
    """A command with an example, and with its own options before those that commands share."""

    context_class = _Context

    def __init__(self, *arguments: Any, example: str, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.example = example

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command is for, the example, and the rest of the text."""
        summary, _, rest = inspect.cleandoc(self.help or "").partition("\n\n")
        for text in (summary, f"\b\n  $ {self.example}", rest):
            if text:
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text(text)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group."""
        for title, parameters in self.grouped(ctx).items():
            records = [parameter.get_help_record(ctx) for parameter in parameters]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])

    def grouped(self, ctx: click.Context) -> Mapping[str, Sequence[click.Option]]:
        """Return the options by the title of their group, without empty groups. Hidden options are left out."""
        titles = {name: title for title, names in _SHARED.items() for name in names}
        groups: dict[str, list[click.Option]] = {"Options": [], **{title: [] for title in _SHARED}}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and not parameter.hidden:
                groups[titles.get(parameter.name or "", "Options")].append(parameter)
        return {title: options for title, options in groups.items() if options}


command = functools.partial(click.command, cls=Command)
"""The decorator of a command: ``@command(example="omidbfs ...")``."""
