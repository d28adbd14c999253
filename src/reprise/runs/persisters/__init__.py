"""The callbacks that write the files of a run."""
