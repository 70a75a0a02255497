"""Nouns shared by every part: names, hash keys, sequence numbers, record batches, errors, limits.

Nothing here does I/O, reads a clock or draws a random number.
"""
