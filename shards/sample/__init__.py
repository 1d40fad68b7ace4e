"""The real images that the repository carries: a part of Fashion-MNIST, in its official format."""
