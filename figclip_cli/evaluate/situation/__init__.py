"""Situation recognition on VidSitu: prediction files against annotation, with the numbers of its official scorer."""
