"""Images on the way to a network: files and their meaning, sources, splits, augmentation, batches."""
