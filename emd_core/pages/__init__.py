"""Everything that people look at: contact sheets, overlays, charts, HTML pages.

In: figures, crops, masks. Out: pictures and pages, each one file. Uses every room; none uses it, so that a picture or a
caption makes no training stale.
"""
