"""Drawn videos and faces in the layouts of FaceForensics++, DFDC and AffectNet, so that every stage runs its real code.

In: numbers (how many, how large, a seed). Out: files as a data set's download leaves them. Uses no other room.
"""
