"""Cnn14 with 32 mel bins (ablation of the mel bins).

panns-jax train --config cnn14_mel32 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_mel32", early_stop=600_000)
