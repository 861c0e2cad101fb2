"""A verdict on a file: is a face in it manipulated, when, where, or can it not be said.

In: a video or a picture, and a checkpoint. Out: a `Verdict`, and the faces that a report shows. Uses detection, models,
faces, video and storage.
"""
