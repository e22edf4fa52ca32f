"""Cnn14 with a hop of 1000 samples, 31.3 ms (ablation of the hop).

panns-jax train --config cnn14_hop1000 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14", hop_size=1000, early_stop=600_000)
