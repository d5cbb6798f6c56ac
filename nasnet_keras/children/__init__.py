"""Children, the small networks that a search trains for a moment: a genotype and data go in, a reward comes out."""
