"""How a checkpoint does at other lengths than its own, and how normalizations compare.

Imports every other room but `gau_alpha`.
"""
