"""Serves a view to readers: open, read, spool, disks, rights, change of view. It knows no front end."""
