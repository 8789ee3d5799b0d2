"""Helpers that every other package uses: errors, names, words, user directories, processes, atomic writes."""
