"""Wavegram_Cnn14, a spectrogram that is learnt, read by Cnn14.

panns-jax train --config wavegram_cnn14 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Wavegram_Cnn14", early_stop=600_000)
