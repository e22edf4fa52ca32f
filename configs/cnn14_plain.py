"""Cnn14 without balanced sampling and mixup (ablation of sampling and augmentation).

panns-jax train --config cnn14_plain --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14", balanced="none", augmentation="none", early_stop=600_000)
