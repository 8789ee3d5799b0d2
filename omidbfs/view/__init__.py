"""A path to a node: what the drive looks like. No FUSE in it."""
