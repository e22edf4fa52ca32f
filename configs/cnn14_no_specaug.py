"""Cnn14 without SpecAugment.

panns-jax train --config cnn14_no_specaug --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_no_specaug", early_stop=600_000)
