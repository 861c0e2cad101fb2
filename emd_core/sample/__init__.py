"""Drawn videos and images in the layout of FaceForensics++ and AffectNet, so that every stage runs its real code."""
