"""Dense video captioning: when things happen in a video and what, all events at once (after PDVC, arXiv 2108.07781)."""
