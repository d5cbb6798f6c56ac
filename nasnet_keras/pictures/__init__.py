"""Pictures as SVG and HTML: cells, curves, confusion matrices, and the report of a search."""
