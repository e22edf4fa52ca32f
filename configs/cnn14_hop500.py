"""Cnn14 with a hop of 500 samples, 15.6 ms (ablation of the hop).

panns-jax train --config cnn14_hop500 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14", hop_size=500, early_stop=600_000)
