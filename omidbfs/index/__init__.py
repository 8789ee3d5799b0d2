"""The metadata index: an OMI-DB as columns, one row per image. Cohorts and everything above them use it."""
