"""FUSE: translates between the kernel and a drive, and starts, examines and ends mounts."""
