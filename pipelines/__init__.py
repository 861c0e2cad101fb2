"""The pipeline as a whole: who feeds whom, and what a run came to."""
