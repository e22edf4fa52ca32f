"""Vectors of many sounds: work that is written down as it is done, gone on with, and shared out."""
