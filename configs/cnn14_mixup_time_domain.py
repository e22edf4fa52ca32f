"""Cnn14 with mixup of waveforms (ablation of sampling and augmentation).

panns-jax train --config cnn14_mixup_time_domain --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_mixup_time_domain", early_stop=600_000)
