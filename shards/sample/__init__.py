"""The images in this repository: a part of Fashion-MNIST, in the official format of its files."""
