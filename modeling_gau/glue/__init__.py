"""Fine-tuning on GLUE, CLUE and files of the same shape: tasks, data, labels, metrics, trainer, studies, report.

Imports the model, `text` and `runs`.
"""
