"""``python -m omidbfs``."""

if __name__ == "__main__":  # not in worker processes, which import this module too and need no command line
    from omidbfs.cli import main

    main(prog_name="omidbfs")
