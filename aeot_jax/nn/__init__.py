"""The autoencoder that learns the data manifold; it knows nothing of transport."""
