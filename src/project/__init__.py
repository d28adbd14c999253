"""The data, models, metrics and callbacks of this project."""
