"""Cnn14 with a hop of 640 samples, 20 ms (ablation of the hop).

panns-jax train --config cnn14_hop640 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14", hop_size=640, early_stop=600_000)
