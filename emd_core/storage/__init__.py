"""What lies on the disk: users' files as people leave them; tables, arrays, masks between stages, written whole or not.

In and out: files and folders; of a stage a few large files and one table. Uses no other room.
"""
