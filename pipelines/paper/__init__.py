"""The paper's tables and figures from the folders that experiments leave: cells in, one page of results out."""
