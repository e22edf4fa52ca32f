"""Cnn6, four blocks of one 5 × 5 convolution.

panns-jax train --config cnn6 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn6", early_stop=600_000)
