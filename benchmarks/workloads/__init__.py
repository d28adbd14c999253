"""What is trained: models, data and a measuring callback, as a user of Reprise would write them.

The contestants that are plain loops use the same models and tensors, so nothing here imports Reprise on the way in.
"""
