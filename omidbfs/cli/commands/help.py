"""``omidbfs help`` explains a command or a topic; ``omidbfs version`` is ``--version``. For the main thread."""

from collections.abc import Callable, Mapping

import click

from omidbfs.cli.command import command


def _path() -> str:
    from omidbfs.facets import FACETS
    from omidbfs.view.about import readme

    return readme(FACETS)


def _configuration() -> str:
    return """\
omidbfs.toml sets defaults of options, and defines facets, cohorts and renditions. omidbfs reads the file that
--config names, else ./omidbfs.toml, else ~/.config/omidbfs/omidbfs.toml. An example:

  [mount]                               # options of a command, without the dashes
  readahead = 0

  [cohorts.priors]                      # cohorts/priors on the drive
  path = "by-outcome/interval-cancer-prior,malignant-prior"
  exclude = { images = "bad.txt" }      # a list, one name a line

  [facets.kvp]                          # by-kvp on the drive
  tag = "KVP"
  bins = [26, 28, 30]

  [renditions.small]                    # as-small on the drive
  format = "png16"
  size = "512x384"

docs/configuration.md has every key. Environment variables set options too: OMIDBFS_MOUNT_READAHEAD=0.
"""


_TOPICS: Mapping[str, Callable[[], str]] = {"path": _path, "configuration": _configuration}


@command("help", example="omidbfs help path")
@click.argument("topic", required=False)
@click.pass_context
def help_(ctx: click.Context, topic: str | None) -> None:
    """Explain a command, or one of the topics path and configuration.

    "path" is how a path selects images. It is also the README.txt of every drive.
    """
    group = ctx.find_root().command
    root = ctx.find_root()
    if topic is None:
        click.echo(group.get_help(root))
    elif topic in _TOPICS:
        click.echo(_TOPICS[topic](), nl=False)
    elif isinstance(group, click.Group) and (command := group.get_command(root, topic)) is not None:
        with click.Context(command, root, info_name=topic) as asked:
            click.echo(command.get_help(asked))
    else:
        from omidbfs.base.errors import UserError
        from omidbfs.base.words import meant

        names = [*_TOPICS, *(group.commands if isinstance(group, click.Group) else ())]
        remedy = meant(topic, names) or "omidbfs --help lists both"
        raise UserError("no command and no topic", remedy, place=topic)


@command(hidden=True, example="omidbfs version")
def version() -> None:
    """Show the version."""
    from omidbfs import __version__

    click.echo(f"omidbfs, version {__version__}")
