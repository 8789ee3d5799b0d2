"""``omidbfs``, and ``python -m omidbfs``: the command line, which this module loads."""

import signal


def main() -> None:
    """Run the command line."""
    # While that is loaded there is nothing that Ctrl-C would leave behind, and nobody wants a traceback of it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from omidbfs.cli.main import main as run

    run(prog_name="omidbfs")


if __name__ == "__main__":  # not in worker processes, which import this module too and need no command line
    main()
