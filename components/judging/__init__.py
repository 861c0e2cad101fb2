"""What `detect` and `serve` share: which model is meant, and one file judged into a folder of its own.

In: a model's folder or address in the registry; a file. Out: verdict.json, report.html and overlay.mp4. Uses registry.
"""
