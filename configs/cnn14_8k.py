"""Cnn14 at 8 kHz (ablation of the sample rate).

panns-jax train --config cnn14_8k --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_8k", early_stop=600_000)
