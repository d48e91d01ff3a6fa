"""Situation recognition on VidSitu: verbs, the roles' noun phrases, and how events relate."""
