"""A cohort as one page to look at: ``figures`` counts, ``plots`` draws, ``page`` writes the HTML."""
