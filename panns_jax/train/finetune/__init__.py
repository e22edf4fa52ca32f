"""`panns-jax finetune`: from labelled sounds and a pretrained model to a classifier of one's own classes."""
