"""A cohort as a file: ``formats`` lists what there is, ``spool`` keeps what a drive has made.

Every format is a function from a cohort to chunks of bytes, made a page of rows at a time: a cohort of millions of
images takes no more memory than one of thousands. The drive and ``omidbfs export`` write the same bytes.
"""
