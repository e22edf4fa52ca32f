"""Wavegram_Logmel_Cnn14 with 128 mel bins.

panns-jax train --config wavegram_logmel128_cnn14 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Wavegram_Logmel128_Cnn14", early_stop=600_000)
