"""DaiNet19, over waveforms.

panns-jax train --config dainet19 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="DaiNet19", early_stop=600_000)
