"""Cohorts: the images that the components of a path select. The view and everything above it use them."""
