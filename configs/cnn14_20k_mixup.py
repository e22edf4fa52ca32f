"""Cnn14 on the balanced training set (ablation of sampling and augmentation).

panns-jax train --config cnn14_20k_mixup --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(data_type="balanced_train", model_type="Cnn14", early_stop=600_000)
