"""The benchmarks, one command each. ``scripts/bench`` sets up what they need and starts this program."""

import signal
import sys

import click
from drive import drive
from handlers import handlers
from index import index
from making import making
from pixels import pixels
from python import python
from serving import http


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--save", is_flag=True, help="Also keep the figures in benchmarks/figures.json, for the documentation."
)
def main(save: bool) -> None:
    """Measure omidbfs. Compare a figure only with figures of the same run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    # Only once: a second signal must not interrupt the cleaning up.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


main.add_command(drive)
main.add_command(handlers)
main.add_command(http)
main.add_command(index)
main.add_command(making)
main.add_command(pixels)
main.add_command(python)

if __name__ == "__main__":
    main(prog_name="scripts/bench")
