"""The files of sources: which there are, what identifies each, what their bytes say."""
