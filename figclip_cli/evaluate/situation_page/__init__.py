"""A page that shows what was predicted of chosen clips beside what annotators said, with frames."""
