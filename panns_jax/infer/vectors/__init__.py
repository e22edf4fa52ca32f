"""Files of vectors, in the forms that `panns-jax embed` writes."""

from panns_jax.infer.vectors.reading import Vectors, open_vectors, read_vectors

__all__ = ["Vectors", "open_vectors", "read_vectors"]
