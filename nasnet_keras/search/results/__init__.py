"""What a search leaves for people: the best cell, the report, longer trainings compared, TensorBoard's files."""
