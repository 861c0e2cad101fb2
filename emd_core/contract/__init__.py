"""What the data contract asks of the tables before anything is trained: one row per thing that is asked about.

In: the tables of videos, crops and masks. Out: tables of figures, duplicates, drift. Uses storage.
"""
