"""Cnn14 at 16 kHz (ablation of the sample rate).

panns-jax train --config cnn14_16k --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_16k", early_stop=600_000)
