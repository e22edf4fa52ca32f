"""The small model of the demonstration, for two cores and a corpus of minutes (scripts/demo.py).

panns-jax train --config demo --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(
    data_type="balanced_train",
    model_type="DemoCnn",
    balanced="balanced",
    augmentation="mixup",
    batch_size=32,
    learning_rate=2e-3,
    early_stop=450,
    evaluate_every=450,
    checkpoint_every=250,
)
