"""What a search knows of its trials: on the disk, in memory, and as KerasTuner sees them."""
