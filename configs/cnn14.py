"""Cnn14, six blocks of two 3 × 3 convolutions, the paper's own baseline.

panns-jax train --config cnn14 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14", early_stop=600_000)
