"""The command line: commands, options, completion."""
