"""pyfuse3 and nothing else: what the drive looks like is decided in ``omidbfs.view.view``."""
