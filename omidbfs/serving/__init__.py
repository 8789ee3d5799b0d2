"""A view that is open to readers: open, read, spool, disks, change of view. No FUSE in it."""
