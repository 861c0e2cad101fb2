"""The layouts that data sets have on disk: of videos as VIDEOS tables, of expression faces as labelled images."""
