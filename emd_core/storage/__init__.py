"""What passes between stages: tables, large arrays, packed masks; written whole or not at all.

In and out: a stage's folder, a few large files and one table. Uses no other room.
"""
