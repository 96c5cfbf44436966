"""Text of files -> documents -> tokens -> rows -> batches, and the same masked tokens for every evaluation.

Imports the model.
"""
