"""How `panns_jax.execute` gets its work done: in this process, by processes of this machine, or over a cluster."""
