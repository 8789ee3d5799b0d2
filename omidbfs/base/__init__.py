"""Small things that every floor uses: errors, names, words, places, processes, files that appear whole."""
