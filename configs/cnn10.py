"""Cnn10, four blocks of two 3 × 3 convolutions.

panns-jax train --config cnn10 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn10", early_stop=600_000)
