"""All that reaches into Keras or differs by backend: where to look after a Keras upgrade."""
