"""A view that is open to readers: open, read, spool, disks, rights, change of view. No FUSE and no HTTP in it."""
