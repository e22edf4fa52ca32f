"""Cnn14 with an embedding of 512 (ablation of the embedding).

panns-jax train --config cnn14_emb512 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_emb512", early_stop=600_000)
