"""Commands, one module each; ``cli.py`` registers them."""
