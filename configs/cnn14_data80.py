"""Cnn14 on 80 % of the training clips (ablation of the data).

panns-jax train --config cnn14_data80 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(data_fraction=0.8, model_type="Cnn14", early_stop=600_000)
