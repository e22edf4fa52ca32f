"""Data of one's own: labelled sounds from folders, tables and TensorFlow Datasets, their splits and their card."""
