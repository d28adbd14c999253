"""The records of a sweep and what is made of them."""
