"""The images that come with the repository: a part of Fashion-MNIST, in its official format."""
