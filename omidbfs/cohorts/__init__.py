"""A component of a path to the images that it selects; named cohorts."""
