"""One cohort, or several, as a page to look at: ``figures`` counts, ``plots`` draws, ``page`` writes the HTML."""
