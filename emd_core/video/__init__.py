"""Videos as pictures.

In: a video file and frame numbers. Out: those frames, decoded bit for bit, as RGB. Uses no other room.
"""
