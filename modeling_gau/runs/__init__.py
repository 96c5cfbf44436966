"""What every run adds to the Trainer: arguments and recipes, checkpoints, signals, progress, records, cards, the push.

Imports the model and `text`.
"""
