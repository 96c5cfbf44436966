"""Masked-language-model pretraining: data, trainer, report.

Imports the model, `text` and `runs`.
"""
