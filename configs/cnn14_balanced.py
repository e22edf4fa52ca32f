"""Cnn14 without mixup (ablation of sampling and augmentation).

panns-jax train --config cnn14_balanced --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14", augmentation="none", early_stop=600_000)
