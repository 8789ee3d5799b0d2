"""``python -m omidbfs``."""

from omidbfs.cli import main

main(prog_name="omidbfs")
