"""The metadata index: an OMI-DB as columns and posting lists, one row per image."""
