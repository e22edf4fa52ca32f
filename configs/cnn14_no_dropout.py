"""Cnn14 without dropout after its blocks.

panns-jax train --config cnn14_no_dropout --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_no_dropout", early_stop=600_000)
