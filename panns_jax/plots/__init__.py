"""Figures. Matplotlib, an extra, is imported where it draws."""
