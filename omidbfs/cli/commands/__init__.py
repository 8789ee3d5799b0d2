"""The commands, one module each. ``cli/main.py`` registers them. All run in the main thread."""
