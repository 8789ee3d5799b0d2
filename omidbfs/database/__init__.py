"""Reads an OMI-DB tree on disk into records. Nothing here depends on facets, indexes or FUSE."""
