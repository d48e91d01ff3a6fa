"""Task heads: small networks over frozen features, trained by ``train-head``, used by ``predict``."""
