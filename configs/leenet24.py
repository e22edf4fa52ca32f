"""LeeNet24, over waveforms.

panns-jax train --config leenet24 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="LeeNet24", early_stop=600_000)
