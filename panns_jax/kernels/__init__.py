"""Convolutions, in whichever way the processor is fast at; the only place that knows how one is computed."""
