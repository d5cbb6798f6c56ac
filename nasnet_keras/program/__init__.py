"""What a network computes, as values and steps, without a framework."""
