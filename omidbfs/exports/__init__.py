"""Exports: a cohort as a file. The drive and ``omidbfs export`` use them, and get the same bytes.

Every format is a function that yields the bytes of a cohort, a page of rows at a time. So a cohort of millions of
images takes no more memory than one of thousands. ``formats`` lists them.
"""
