"""What a search leaves for people: the best cell, its report, longer trainings, TensorBoard."""
