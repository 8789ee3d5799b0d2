"""Turns a path into a node: what the drive looks like. It knows no front end."""
