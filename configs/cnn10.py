"""Cnn10 on all of AudioSet as published: balanced sampling, mixup, SpecAugment, batches of 32, Adam at 1e-3.

panns-jax train --config cnn10 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(
    data_type="full_train",
    model_type="Cnn10",
    balanced="balanced",
    augmentation="mixup",
    batch_size=32,
    learning_rate=1e-3,
    early_stop=1_000_000,
)
