"""Cnn14 with 128 mel bins (ablation of the mel bins).

panns-jax train --config cnn14_mel128 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_mel128", early_stop=600_000)
