"""The benchmarks, one command each. ``scripts/bench`` sets up what they need and starts this program."""

import signal
import sys

import click
from drive import drive
from index import index


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure omidbfs. Compare a figure only with figures of the same run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    # Only once: a second signal must not interrupt the cleaning up.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


main.add_command(drive)
main.add_command(index)

if __name__ == "__main__":
    main(prog_name="scripts/bench")
