"""Files: writing them whole, reading JSON that may be damaged, comparing it, locks, and the disk under them."""
