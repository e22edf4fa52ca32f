"""The small model of the demonstration, for two cores and a corpus of minutes (scripts/demo.py).

panns-jax train --config demo --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(
    data_type="balanced_train",
    model_type="DemoCnn",
    balanced="balanced",
    augmentation="mixup",
    batch_size=16,
    learning_rate=1e-3,
    learning_rate_decay="cosine",
    warm_up=30,
    early_stop=900,
    evaluate_every=900,
    checkpoint_every=300,
)
