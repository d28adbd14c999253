"""The training loop: one step over and over. It knows no file names and no config."""
