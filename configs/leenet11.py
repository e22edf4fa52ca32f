"""LeeNet11, over waveforms.

panns-jax train --config leenet11 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="LeeNet11", early_stop=600_000)
