"""Where the face is, and its crop.

In: frames. Out: boxes followed over time, square crops with their figures (hash, sharpness). Uses video and storage.
"""
