"""Measures checkpoints at lengths other than their own, and compares normalizations.

Imports every other room but `gau_alpha`.
"""
