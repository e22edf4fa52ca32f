"""The paper's experiments: what was published of each, what runs of one's own reached, and tables of both."""
