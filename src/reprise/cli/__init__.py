"""The command line: what knows Hydra, prints, and turns exceptions into exit codes."""
