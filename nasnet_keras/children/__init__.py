"""A child that trains for a moment: no Keras compilation, weights of its own or shared, told of before it trains."""
