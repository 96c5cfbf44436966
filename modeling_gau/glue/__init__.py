"""Fine-tuning on GLUE, CLUE and local files: tasks, metrics, data, labels, trainer, studies, reports.

Imports the model, `text` and `runs`.
"""
