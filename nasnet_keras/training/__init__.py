"""A model and data in, a trained model and figures out."""
