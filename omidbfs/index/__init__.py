"""The metadata index: an OMI-DB as columns, one row per image."""
