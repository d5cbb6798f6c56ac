"""Genotypes and figures as SVG and HTML, from the standard library alone."""
