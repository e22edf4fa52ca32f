"""Wavegram_Logmel_Cnn14, a learnt spectrogram beside the log-mel one, read by Cnn14.

panns-jax train --config wavegram_logmel_cnn14 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Wavegram_Logmel_Cnn14", early_stop=600_000)
