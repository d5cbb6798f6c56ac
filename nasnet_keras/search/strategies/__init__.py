"""Who proposes cells and learns from their rewards; nobody here knows a network."""
