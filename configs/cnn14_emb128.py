"""Cnn14 with an embedding of 128 (ablation of the embedding).

panns-jax train --config cnn14_emb128 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_emb128", early_stop=600_000)
