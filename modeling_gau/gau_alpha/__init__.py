"""Checkpoints of GAU-alpha, in and out.

Imports the model, `text` and the cards of `runs`.
"""
