"""Cnn14 on 50 % of the training clips (ablation of the data).

panns-jax train --config cnn14_data50 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(data_fraction=0.5, model_type="Cnn14", early_stop=600_000)
