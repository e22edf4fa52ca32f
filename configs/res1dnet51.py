"""Res1dNet51, residual blocks over waveforms.

panns-jax train --config res1dnet51 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Res1dNet51", early_stop=600_000)
