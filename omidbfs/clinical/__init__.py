"""Records to links of studies, outcomes and status; the rows of ``omidb summarise``."""
