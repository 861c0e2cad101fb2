"""The layouts that video data sets have on disk.

In: a data set's folder. Out: one row per video (method, quality, label, split, ids, mask video). Uses storage; needs
neither a network nor a decoder.
"""
