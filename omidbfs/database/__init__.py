"""An OMI-DB tree on disk, read into records. Nothing here knows of facets, indexes or FUSE."""
