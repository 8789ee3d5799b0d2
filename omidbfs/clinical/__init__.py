"""Derives links of studies, outcomes and status from the records, and the rows of ``omidb summarise``."""
