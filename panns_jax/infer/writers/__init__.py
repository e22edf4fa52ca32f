"""What is heard, written in the formats that other programs read.

Writers take one sound after another and keep none of them, so that memory does not grow with the number of files. Files
are written aside and renamed: they are complete or absent.
"""
