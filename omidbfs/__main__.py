"""``python -m omidbfs``."""

from omidbfs.cli import main

main()
