"""pyfuse3 and nothing else: translates between the kernel and a drive, and starts, asks and ends mounts."""
